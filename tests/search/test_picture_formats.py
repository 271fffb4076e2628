"""What picture files carry beside their pixels: colour profiles, EXIF, frames; and formats of telephones."""

from __future__ import annotations

import base64
import builtins
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.ExifTags import GPS, IFD, Base

from search.encoders import pictures
from search.encoders.pictures import PictureFile, open_picture, read_header, read_headers
from search.errors import MissingExtra, SourceError
from tests.pictures import png, png_claiming

# From linear RGB to the XYZ of profiles (white D50): of sRGB, and of Display P3, whose primaries lie further out.
SRGB_TO_PCS = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
P3_TO_PCS = np.array([[0.51512, 0.29198, 0.15710], [0.24119, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])

# 64 x 64 pixels of (200, 30, 60): what reads HEIC cannot write it.
HEIC = """
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA
ACJpbG9jAAAAAERAAAEAAQAAAAABegABAAAAAAAAABwAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt
AAAAAAABAAAA1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA
AAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xy
bmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAACRt
ZGF0AAAAGCgBrxOA5qhw0//95FH/3B54ffr+tJ5v3w==
"""


def fixed(values: object) -> bytes:
    """Numbers as ICC's XYZ type."""
    return b"XYZ \0\0\0\0" + b"".join(
        round(float(value) * 65536).to_bytes(4, "big", signed=True)
        for value in values  # type: ignore[attr-defined]
    )


def written(space: bytes, description: str, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2, written out by hand."""
    words = description.encode() + b"\0"
    text = b"desc\0\0\0\0" + len(words).to_bytes(4, "big") + words + bytes(78)
    tags = {b"desc": text, b"wtpt": fixed((0.9642, 1.0, 0.8249)), **tags}
    table, body, place = b"", b"", 128 + 4 + len(tags) * 12
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + (place + len(body)).to_bytes(4, "big") + len(data).to_bytes(4, "big")
        body += data
    head = bytearray(128)
    head[8:12], head[12:16], head[16:20], head[20:24] = b"\2\x10\0\0", b"mntr", space, b"XYZ "
    head[36:40], head[68:80] = b"acsp", fixed((0.9642, 1.0, 0.8249))[8:]
    whole = bytes(head) + len(tags).to_bytes(4, "big") + table + body
    return len(whole).to_bytes(4, "big") + whole[4:]


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + (1).to_bytes(4, "big") + round(gamma * 256).to_bytes(2, "big") + b"\0\0"


def gamma_profile(gamma: float, description: str) -> bytes:
    return written(b"GRAY", description, {b"kTRC": curve(gamma)})


def matrix_profile(matrix: np.ndarray, gamma: float, description: str) -> bytes:
    columns = {name: fixed(matrix[:, at]) for at, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return written(
        b"RGB ", description, columns | {name: curve(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")}
    )


def test_a_grey_profile_is_converted(tmp_path: Path) -> None:
    levels = np.array([[0, 64, 128, 255]], dtype=np.uint8)
    profile = gamma_profile(1.0, "linear grey")
    Image.fromarray(levels).save(tmp_path / "a.png", icc_profile=profile)
    linear = levels[0] / 255
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    np.testing.assert_allclose(np.asarray(open_picture(tmp_path / "a.png"))[0, :, 0], srgb, atol=2)
    assert read_header(tmp_path / "a.png").profile == "linear grey"


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(values).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / "a.png")), values)
    assert read_header(tmp_path / "a.png").profile is None


@pytest.mark.parametrize("profile", [b"no profile at all", gamma_profile(1.0, "grey")[:140]])
def test_a_profile_that_is_damaged_is_ignored(tmp_path: Path, profile: bytes) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / "a.png")), values)
    assert read_header(tmp_path / "a.png").profile == "damaged"


def test_a_profile_of_another_kind_of_colour_is_ignored(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png", icc_profile=gamma_profile(1.0, "grey"))
    np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / "a.png")), values)


def test_a_wide_profile_is_converted_and_transparency_stays(tmp_path: Path) -> None:
    profile = matrix_profile(P3_TO_PCS, 2.2, "wide")
    pixels = np.array([[[200, 100, 50, 255], [60, 120, 90, 255], [200, 100, 50, 0]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profile)
    Image.fromarray(pixels[:, :2, :3].copy()).save(tmp_path / "b.png", icc_profile=profile)
    linear = (pixels[0, :2, :3] / 255) ** 2.2 @ P3_TO_PCS.T @ np.linalg.inv(SRGB_TO_PCS).T
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(srgb - pixels[0, :2, :3]).max() > 10  # it does change something
    np.testing.assert_allclose(np.asarray(open_picture(tmp_path / "b.png"))[0], srgb, atol=2)
    np.testing.assert_allclose(np.asarray(open_picture(tmp_path / "a.png"))[0, :2], srgb, atol=2)
    assert open_picture(tmp_path / "a.png").getpixel((2, 0)) == (255, 255, 255)


def with_exif(**more: object) -> Image.Exif:
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = "Nikon \0", "  D90"
    exif.get_ifd(IFD.Exif).update({Base.DateTimeOriginal: "2024:01:31 10:20:30"})
    exif.get_ifd(IFD.GPSInfo).update(
        {
            GPS.GPSLatitudeRef: "S",
            GPS.GPSLatitude: (33.0, 51.0, 36.0),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: (151.0, 12.0, 18.0),
        }
    )
    return exif


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "avif"])
def test_what_the_camera_wrote(tmp_path: Path, kind: str) -> None:
    exif = with_exif()
    Image.new("RGB", (4, 4)).save(tmp_path / f"a.{kind}", exif=exif)
    assert read_header(tmp_path / f"a.{kind}").exif == {
        "date": "2024-01-31T10:20:30",
        "latitude": -33.86,
        "longitude": 151.205,
        "camera_make": "Nikon",
        "camera_model": "D90",
    }


def test_a_date_has_its_offset_and_nonsense_is_left_out(tmp_path: Path) -> None:
    exif = with_exif()
    exif.get_ifd(IFD.Exif)[Base.OffsetTimeOriginal] = "+02:00"
    exif.get_ifd(IFD.GPSInfo)[GPS.GPSLatitude] = (95.0, 0.0, 0.0)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg", exif=exif)
    said = read_header(tmp_path / "a.jpg").exif
    assert said["date"] == "2024-01-31T10:20:30+02:00"
    assert "latitude" not in said
    assert "longitude" not in said
    exif = Image.Exif()
    exif[Base.DateTime] = "0000:00:00 00:00:00"
    Image.new("RGB", (4, 4)).save(tmp_path / "b.jpg", exif=exif)
    assert read_header(tmp_path / "b.jpg").exif == {}


def test_a_header_of_png_is_read_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(png())

    def load(self: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    assert (read_header(tmp_path / "a.png").width, read_header(tmp_path / "a.png").height) == (8, 6)


def test_exif_behind_the_pixels_of_a_png_is_found(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = png()
    whole = io.BytesIO()
    Image.open(io.BytesIO(data)).save(whole, "PNG", exif=exif)
    block = whole.getvalue()
    at = block.index(b"eXIf") - 4
    chunk = block[at : at + 12 + int.from_bytes(block[at : at + 4], "big")]
    (tmp_path / "late.png").write_bytes(data[:-12] + chunk + data[-12:])
    header = read_header(tmp_path / "late.png")
    assert (header.width, header.height) == (6, 8)
    assert open_picture(tmp_path / "late.png").size == (6, 8)


@pytest.mark.parametrize(
    ("kind", "more"), [("gif", {}), ("webp", {"lossless": True}), ("tiff", {}), ("png", {})]
)
def test_every_frame_can_be_asked_for(tmp_path: Path, kind: str, more: dict[str, object]) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    frames = [Image.new("RGB", (4, 4), colour) for colour in colours]
    file = tmp_path / f"a.{kind}"
    frames[0].save(file, save_all=True, append_images=frames[1:], **more)
    headers = read_headers(file)
    assert [(one.frames, one.width) for one in headers] == [(3, 4)] * 3
    for number, colour in enumerate(colours):
        for stored in (file, file.read_bytes):
            frame = open_picture(PictureFile(file.name, stored, number))
            assert frame.getpixel((1, 1)) == colour
    assert open_picture(file).getpixel((1, 1)) == colours[0]


def test_pages_may_differ_and_each_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [Image.new("RGB", size) for size in ((4, 4), (20, 30))]
    file = tmp_path / "a.tiff"
    pages[0].save(file, save_all=True, append_images=pages[1:])
    assert [(one.width, one.height) for one in read_headers(file)] == [(4, 4), (20, 30)]
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100)
    with pytest.raises(SourceError, match="20 x 30 pixels"):
        read_headers(file)
    with pytest.raises(SourceError, match="20 x 30 pixels"):
        open_picture(PictureFile("a", file, 1))
    assert open_picture(file).size == (4, 4)


def test_too_many_frames_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("L", (4, 4), level) for level in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(pictures, "MAX_FRAMES", 3)
    with pytest.raises(SourceError, match="has 4 frames, more than the 3"):
        read_headers(tmp_path / "a.gif")
    assert read_header(tmp_path / "a.gif").width == 4


def test_bytes_are_a_picture_with_a_name() -> None:
    assert open_picture(PictureFile("x.zip/a.png", lambda: png((1, 2, 3)))).getpixel((0, 0)) == (1, 2, 3)
    assert read_header(PictureFile("x.zip/a.png", png)).size_bytes == len(png())
    for data, words in (
        (b"", "is empty"),
        (b"text", "is not a picture"),
        (png_claiming(9000, 9000), "9000 x 9000"),
    ):
        with pytest.raises(SourceError, match=words) as caught:
            open_picture(PictureFile("x.zip/a.png", lambda data=data: data))
        assert caught.value.file == "x.zip/a.png"


def test_heic_whatever_it_is_called(tmp_path: Path) -> None:
    pi_heif = pytest.importorskip("pi_heif", reason="reads HEIC")
    assert pi_heif.__version__
    data = base64.b64decode(HEIC)
    for name in ("a.heic", "a.jpg"):
        (tmp_path / name).write_bytes(data)
        header = read_header(tmp_path / name)
        assert (header.format, header.width, header.height) == ("HEIF", 64, 64)
        np.testing.assert_allclose(np.asarray(open_picture(tmp_path / name))[32, 32], [200, 30, 60], atol=12)


def test_avif(tmp_path: Path) -> None:
    Image.new("RGB", (16, 8), (200, 30, 60)).save(tmp_path / "a.avif", quality=90)
    header = read_header(tmp_path / "a.avif")
    assert (header.format, header.width, header.height) == ("AVIF", 16, 8)
    np.testing.assert_allclose(np.asarray(open_picture(tmp_path / "a.avif"))[4, 4], [200, 30, 60], atol=12)


def test_a_format_whose_package_is_missing_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *more: object) -> object:
        if name == "pi_heif":
            raise ImportError(name)
        return real(name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setattr(Image, "OPEN", {k: v for k, v in Image.OPEN.items() if k not in ("HEIF", "AVIF")})
    for brand, what in ((b"heic", "HEIC"), (b"avif", "AVIF")):
        (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(30))
        with pytest.raises(MissingExtra, match=rf'reading {what} needs .*pip install "nearkin\[heic\]"'):
            open_picture(tmp_path / "a.heic")
