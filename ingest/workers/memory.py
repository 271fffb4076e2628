"""How much memory a process has, and has had at most."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_bytes() -> int | None:
    """The most bytes that this process has had in memory; None where the system does not tell.

    On Linux not by getrusage, in whose number the peak of the process that started this one is left.
    """
    told = _told("VmHWM:")
    if told is not None:
        return told
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def bytes_now() -> int | None:
    """The bytes that this process has in memory now; None where the system does not tell."""
    return _told("VmRSS:")


def _told(what: str) -> int | None:
    """A line of what Linux says of this process, in bytes."""
    if not _STATUS.is_file():
        return None
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    return None
