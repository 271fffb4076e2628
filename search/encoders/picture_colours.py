"""Pictures of every kind of pixel as RGB: palettes, transparency, deep greys, CMYK and colour profiles."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from PIL import ImageCms

DAMAGED_PROFILE = "damaged"
_TRANSPARENT = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_PROFILES_KEPT = 8  # their transforms: the pictures of one camera share a profile


def rgb(image: Image.Image) -> Image.Image:
    """A new image in RGB, its embedded profile converted to sRGB, transparent parts on white.

    Grey of 16 bits is scaled to 8; 32-bit and floating-point greys, whose range no format fixes, are stretched from
    their least to their greatest value. A profile that is damaged, or of another kind of colour than the picture, is
    ignored.
    """
    if image.mode in {"I;16", "I;16L", "I;16B", "I;16N"} or (image.mode == "I" and image.format == "PNG"):
        # Pillow before 11 opens the 16-bit PNG as 32-bit integers; both hold 0 to 65535.
        return _grey(np.asarray(image, dtype=np.float64) / 257.0)
    if image.mode in {"I", "F"}:
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        least, greatest = float(values.min()), float(values.max())
        return _grey((values - least) * (255.0 / (greatest - least) if greatest > least else 0.0))
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        rgba = _to_srgb(image.convert("RGBA"), image.info.get("icc_profile"))
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    plain = image if image.mode in {"RGB", "L", "CMYK"} else image.convert("RGB")
    return _to_srgb(plain, image.info.get("icc_profile")).convert("RGB")


def profile_of(image: Image.Image) -> str | None:
    """The name of the embedded profile where that is another than sRGB; "damaged" where it cannot be read."""
    profile = image.info.get("icc_profile")
    return _name(profile) if isinstance(profile, bytes) and profile else None


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8)).convert("RGB")


def _to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """The image (RGB, RGBA, L or CMYK) in sRGB; itself where it has no other profile that fits it."""
    if not isinstance(profile, bytes) or not profile:
        return image
    from PIL import ImageCms

    transform = _transform(profile, image.mode)
    if transform is None:
        return image
    try:
        converted = ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, ValueError):
        return image
    return image if converted is None else converted


@lru_cache(_PROFILES_KEPT)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB, for pictures of this mode; None where there is nothing to do, or it does not fit."""
    from PIL import ImageCms

    fits = {b"RGB ": {"RGB", "RGBA"}, b"GRAY": {"L"}, b"CMYK": {"CMYK"}}
    if _name(profile) in (None, DAMAGED_PROFILE) or mode not in fits.get(profile[16:20], ()):
        return None
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGBA" if mode == "RGBA" else "RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


@lru_cache(_PROFILES_KEPT)
def _name(profile: bytes) -> str | None:
    from PIL import ImageCms

    try:
        read = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = " ".join(ImageCms.getProfileDescription(read).split())
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return DAMAGED_PROFILE
    return None if "srgb" in name.casefold() else name or "unnamed"
