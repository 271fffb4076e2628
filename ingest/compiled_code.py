"""Where compiled code is kept: numba looks for a place itself, and this finds one where it would find none."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"


def place() -> None:
    """Give numba a folder for this process alone where it can write neither beside the modules nor in the user's cache.

    It would refuse to import a module with code to be kept. The folder is the process's own, as what lies in one
    is run; so the next process compiles again. Whoever names one in NUMBA_CACHE_DIR is not overruled.
    """
    if os.environ.get(VARIABLE) or _writable(Path(__file__).parent / "__pycache__"):
        return
    import platformdirs

    if _writable(Path(platformdirs.user_cache_dir("numba", appauthor=False))):
        return
    folder = tempfile.mkdtemp(prefix="nearkin-compiled-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[VARIABLE] = folder
    if "numba" in sys.modules:  # which has read the variable already
        sys.modules["numba"].config.CACHE_DIR = folder


def _writable(folder: Path) -> bool:
    """Whether this folder, or the nearest above it that exists, can be written to."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)
