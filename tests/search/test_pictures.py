"""Opening pictures: every mode comes out as the RGB a person sees, every bad file as one clear line."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.encoders import pictures
from search.encoders.pictures import open_picture, prepare_ahead, read_header
from search.errors import SourceError

ROTATED = 6  # EXIF: to be shown turned a quarter clockwise


def noise(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return values if channels > 1 else values[..., 0]


def rgb(item: Path | Image.Image) -> np.ndarray:
    picture = open_picture(item)
    assert picture.mode == "RGB"
    return np.asarray(picture)


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "webp"])
def test_a_lossless_file_gives_its_own_pixels(tmp_path: Path, kind: str) -> None:
    values = noise(5, 7, 3)
    file = tmp_path / f"a.{kind}"
    Image.fromarray(values).save(file, **({"lossless": True} if kind == "webp" else {}))
    np.testing.assert_array_equal(rgb(file), values)
    np.testing.assert_array_equal(np.asarray(open_picture(str(file))), values)


def test_grey_black_and_white_and_palette(tmp_path: Path) -> None:
    grey = noise(4, 6, 1)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(rgb(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))
    bits = grey > 127
    Image.fromarray(bits).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(
        rgb(tmp_path / "bits.png"), np.repeat(bits[..., None], 3, axis=2) * np.uint8(255)
    )
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(rgb(tmp_path / "palette.png"), [[[10, 20, 30], [200, 100, 50]]])


def test_transparent_parts_lie_on_white(tmp_path: Path) -> None:
    pixels = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = [[[200, 100, 0], [255, 255, 255], [244, 224, 204]]]  # 0.2 of the colour, 0.8 of white
    np.testing.assert_allclose(rgb(tmp_path / "a.png"), expected, atol=1)
    grey = np.array([[[0, 255], [0, 0]]], dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "la.png")
    np.testing.assert_array_equal(rgb(tmp_path / "la.png"), [[[0, 0, 0], [255, 255, 255]]])


def test_a_transparent_palette_colour_and_colour_key(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=bytes([255, 0]))
    np.testing.assert_array_equal(rgb(tmp_path / "palette.png"), [[[10, 20, 30], [255, 255, 255]]])
    Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8)).save(
        tmp_path / "key.png", transparency=(4, 5, 6)
    )
    np.testing.assert_array_equal(rgb(tmp_path / "key.png"), [[[1, 2, 3], [255, 255, 255]]])


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    values = np.array([[0, 257, 256 * 128, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tiff"):
        Image.fromarray(values).save(tmp_path / name)
        np.testing.assert_array_equal(rgb(tmp_path / name)[0, :, 0], [0, 1, 128, 255])


def test_floating_point_greys_are_stretched(tmp_path: Path) -> None:
    Image.fromarray(np.array([[-2.0, 0.0, 2.0]], dtype=np.float32)).save(tmp_path / "a.tiff")
    np.testing.assert_array_equal(rgb(tmp_path / "a.tiff")[0, :, 0], [0, 128, 255])
    Image.fromarray(np.full((1, 2), 7.5, dtype=np.float32)).save(tmp_path / "flat.tiff")
    np.testing.assert_array_equal(rgb(tmp_path / "flat.tiff"), np.zeros((1, 2, 3)))


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    np.testing.assert_allclose(rgb(tmp_path / "red.jpg")[4, 4], [255, 0, 0], atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    upright = noise(3, 5, 3)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, 3),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(file, exif=exif.tobytes())
    np.testing.assert_array_equal(rgb(file), upright)
    once = open_picture(file)
    np.testing.assert_array_equal(rgb(once), upright)  # not turned again
    header = read_header(file)
    assert (header.width, header.height, header.format) == (5, 3, "PNG")
    assert header.size_bytes == file.stat().st_size


def test_a_damaged_exif_block_does_not_lose_the_picture(tmp_path: Path) -> None:
    values = noise(3, 5, 3)
    Image.fromarray(values).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), values)


def test_of_an_animation_the_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(rgb(tmp_path / "a.gif")[0, 0], [255, 0, 0])


def test_a_given_image_is_never_changed() -> None:
    image = Image.fromarray(noise(4, 4, 4))
    before = np.array(image)
    opened = open_picture(image)
    assert opened is not image
    assert image.mode == "RGBA"
    np.testing.assert_array_equal(np.array(image), before)
    plain = Image.new("RGB", (2, 2), "red")
    open_picture(plain).putpixel((0, 0), (0, 0, 0))
    assert plain.getpixel((0, 0)) == (255, 0, 0)


def test_a_small_jpeg_is_enough_where_little_is_asked(tmp_path: Path) -> None:
    slope = np.tile(np.linspace(0, 255, 512).astype(np.uint8), (256, 1))
    Image.fromarray(slope).save(tmp_path / "a.jpg", quality=95)
    small = open_picture(tmp_path / "a.jpg", at_least=60)
    assert small.size == (128, 64)
    whole = open_picture(tmp_path / "a.jpg").resize((128, 64), Image.Resampling.BOX)
    np.testing.assert_allclose(np.asarray(small, float), np.asarray(whole, float), atol=4)


def one_line(error: SourceError, file: Path) -> str:
    message = str(error)
    assert "\n" not in message
    assert message.startswith(f"{file}: ")
    assert error.file == str(file)
    assert "; " in message
    return message


def png_claiming(width: int, height: int) -> bytes:
    """A well-formed PNG of a few bytes that says it is of this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Each kind of bad file, and words that its error must hold."""
    jpeg = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(jpeg, "JPEG")
    contents = {
        "truncated.jpg": (jpeg.getvalue()[: len(jpeg.getvalue()) // 2], "truncated"),
        "empty.png": (b"", "empty"),
        "letter.jpg": (b"Dear Sir or Madam", "not a picture"),
        "picture.svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        "bomb.png": (png_claiming(60_000, 60_000), "64,000,000 pixels"),
        "large.png": (png_claiming(10_000, 9_000), "10000 x 9000 pixels, more than the 64,000,000"),
        "just-too-large.png": (png_claiming(8_001, 8_000), "64,000,000"),
    }
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    (folder / "folder.png").mkdir()
    files = {name: (folder / name, words) for name, (_, words) in contents.items()}
    files["folder.png"] = (folder / "folder.png", "folder")
    files["missing.png"] = (folder / "missing.png", "no such file")
    return files


def test_each_bad_file_is_one_clear_error(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for file, words in bad_files(tmp_path).values():
            with pytest.raises(SourceError) as caught:
                open_picture(file)
            assert words in one_line(caught.value, file)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*arguments: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(pictures, "_upright_rgb", decoded)
    (tmp_path / "a.png").write_bytes(png_claiming(9_000, 9_000))
    with pytest.raises(SourceError, match="9000 x 9000 pixels"):
        open_picture(tmp_path / "a.png")
    with pytest.raises(SourceError, match="9000 x 9000 pixels"):
        read_header(tmp_path / "a.png")


def test_random_damage_is_an_error_or_a_picture_and_nothing_else(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    file = tmp_path / "a.bin"
    outcomes = {"read": 0, "refused": 0}
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP"):
        buffer = io.BytesIO()
        Image.fromarray(noise(20, 30, 3)).save(
            buffer, kind, **({} if kind in {"GIF", "BMP"} else {"exif": exif})
        )
        for trial in range(40):
            data = bytearray(buffer.getvalue())
            if trial % 4 == 0:
                data = data[: int(random.integers(len(data)))]
            else:
                reach = len(data) if trial % 4 == 1 else min(len(data), 200)
                for place in random.integers(reach, size=3):
                    data[place] = random.integers(256)
            file.write_bytes(data)
            try:
                open_picture(file)
                outcomes["read"] += 1
            except SourceError as error:
                one_line(error, file)
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 30


def test_prepare_ahead_keeps_order_and_raises_in_its_turn(tmp_path: Path) -> None:
    images = [Image.new("RGB", (1, 1), (level, 0, 0)) for level in range(50)]
    levels = prepare_ahead(images, lambda picture: picture.getpixel((0, 0))[0], threads=3, ahead=4)  # type: ignore[index]
    assert list(levels) == list(range(50))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    sizes = prepare_ahead([*images[:3], bad, *images[3:]], lambda picture: picture.size, ahead=2)
    assert [next(sizes) for _ in range(3)] == [(1, 1)] * 3
    with pytest.raises(SourceError, match="empty"):
        next(sizes)
