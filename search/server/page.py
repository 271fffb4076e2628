"""The page: one file of HTML with its style and script in it, and the rule by which a browser runs nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

HTML = Path(__file__).with_name("page.html").read_text(encoding="utf-8")


def _hashed(tag: str) -> str:
    """The hash of what stands between the only two tags of this name, as a policy writes it."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", HTML, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"


# Nothing from outside, and no script or style but the page's own: what records hold can never run.
_POLICY = (
    "default-src 'none'; "
    f"script-src {_hashed('script')}; style-src {_hashed('style')}; "
    "img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {"Content-Security-Policy": _POLICY}
