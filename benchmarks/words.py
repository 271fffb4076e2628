"""Sentences to measure with: those of Python's own documentation, which every installation has."""

from __future__ import annotations

import inspect
import json
import re
from types import ModuleType

import numpy as np

_MODULES: tuple[ModuleType, ...] = (inspect, json, re, np, np.linalg, np.random)


def sentences() -> list[str]:
    """The sentences of the docstrings of some modules, each once, in a fixed order."""
    found: dict[str, None] = {}
    for module in _MODULES:
        for name in sorted(vars(module)):
            told = inspect.getdoc(getattr(module, name, None)) or ""
            for sentence in re.split(r"(?<=[.!?])\s+", " ".join(told.split())):
                if 20 <= len(sentence) <= 400:
                    found.setdefault(sentence)
    return list(found)
