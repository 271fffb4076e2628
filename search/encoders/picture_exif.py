"""What a camera wrote beside the pixels: when, where and with what a picture was taken."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from search.types import Json

_DATE = re.compile(r"(\d{4})[:\-/.](\d\d)[:\-/.](\d\d)[ T](\d\d:\d\d:\d\d)")
_OFFSET = re.compile(r"[+-]\d\d:\d\d|Z")
_LONGEST = 200  # characters of a name


def facts(exif: Image.Exif) -> dict[str, Json]:
    """What there is of: date (ISO 8601), latitude and longitude (degrees), camera_make, camera_model.

    Raises:
        Whatever Pillow raises on a damaged block; what makes no sense is left out.
    """
    found: dict[str, Json] = {}
    inner = exif.get_ifd(IFD.Exif)
    date = _date(inner.get(Base.DateTimeOriginal), inner.get(Base.OffsetTimeOriginal)) or _date(
        exif.get(Base.DateTime), inner.get(Base.OffsetTime)
    )
    if date is not None:
        found["date"] = date
    place = exif.get_ifd(IFD.GPSInfo)
    latitude = _degrees(place, GPS.GPSLatitude, GPS.GPSLatitudeRef, "S", 90)
    longitude = _degrees(place, GPS.GPSLongitude, GPS.GPSLongitudeRef, "W", 180)
    if latitude is not None and longitude is not None:
        found |= {"latitude": latitude, "longitude": longitude}
    for name, tag in (("camera_make", Base.Make), ("camera_model", Base.Model)):
        words = _words(exif.get(tag))
        if words:
            found[name] = words
    return found


def _words(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    return " ".join(value.partition("\0")[0].encode("utf-8", "replace").decode().split())[:_LONGEST]


def _date(value: object, offset: object) -> str | None:
    """`2024:01:31 10:00:00` as ISO 8601, with the offset from UTC where it is given."""
    found = _DATE.fullmatch(_words(value))
    if found is None:
        return None
    zone = _words(offset)
    zone = zone if _OFFSET.fullmatch(zone) else ""
    text = f"{found[1]}-{found[2]}-{found[3]}T{found[4]}{zone}"
    try:
        datetime.fromisoformat(text)
    except ValueError:  # 0000:00:00, as cameras without a clock write
        return None
    return text


def _degrees(place: Mapping[int, Any], tag: int, side: int, negative: str, most: int) -> float | None:
    """Degrees, minutes and seconds as decimal degrees, to a ten-millionth (a centimetre)."""
    parts = place.get(tag)
    if not isinstance(parts, tuple | list) or not 1 <= len(parts) <= 3:
        return None
    try:
        value: float = sum(float(part) / 60**power for power, part in enumerate(parts))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not math.isfinite(value) or not 0 <= value <= most:
        return None
    sign = -1.0 if _words(place.get(side)).upper().startswith(negative) else 1.0
    return round(sign * value, 7)
