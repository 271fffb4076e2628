"""What modules written in C say about themselves: they have no source to parse, but they are safe to import."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from types import ModuleType

from ingest.demo.stdlib import Doc, with_methods

# Public name -> the module in C that holds its names. Those of a name of its own have no other source; the rest
# are re-exported by a module that has.
BEHIND = {
    "array": "array",
    "binascii": "binascii",
    "bisect": "_bisect",
    "builtins": "builtins",
    "bz2": "_bz2",
    "cmath": "cmath",
    "collections": "_collections",
    "contextvars": "_contextvars",
    "csv": "_csv",
    "datetime": "_datetime",
    "decimal": "_decimal",
    "functools": "_functools",
    "gc": "gc",
    "heapq": "_heapq",
    "io": "_io",
    "itertools": "itertools",
    "lzma": "_lzma",
    "math": "math",
    "mmap": "mmap",
    "os": "posix",
    "pickle": "_pickle",
    "queue": "_queue",
    "select": "select",
    "signal": "_signal",
    "socket": "_socket",
    "sqlite3": "_sqlite3",
    "struct": "_struct",
    "sys": "sys",
    "time": "time",
    "unicodedata": "unicodedata",
    "zlib": "zlib",
}


# The object or class that a method is bound to, which nobody writes in a call.
_BOUND = re.compile(r"^\((self|type|cls), /(, (?!\*,))?")


def compiled(packages: Sequence[str] | None = None) -> dict[str, ModuleType]:
    """The modules in C that this Python has, by their public name; `packages` limits the names."""
    found = {}
    for name, behind in BEHIND.items():
        if packages is None or name in packages:
            try:
                found[name] = importlib.import_module(behind)
            except ImportError:  # this Python was built without it
                continue
    return found


def about(module: ModuleType | None) -> str:
    """The docstring of a module; '' where there is none."""
    return inspect.cleandoc((module.__doc__ if module is not None else None) or "")


def documents(name: str, module: ModuleType) -> Iterator[Doc]:
    """Each public class, function and method that has a docstring; the module too, if it has no source."""
    if BEHIND[name] == name:
        yield Doc(name, "module", name, f"module {name}", about(module))
    for attribute, thing in sorted(vars(module).items()):
        if attribute.startswith("_") or not callable(thing) or not thing.__doc__:
            continue
        kind = "class" if inspect.isclass(thing) else "function"
        yield _doc(f"{name}.{attribute}", kind, name, thing)
        if not inspect.isclass(thing) or not with_methods(name):
            continue
        for inner, method in sorted(vars(thing).items()):
            if not inner.startswith("_") and callable(method) and method.__doc__:
                yield _doc(f"{name}.{attribute}.{inner}", "method", name, method)


def _doc(id: str, kind: str, module: str, thing: object) -> Doc:
    before = "class " if kind == "class" else ""
    signature = f"{before}{id}{_arguments(thing)}"
    return Doc(id, kind, module, signature, inspect.cleandoc(str(thing.__doc__)))


def _arguments(thing: object) -> str:
    """How it is called, in brackets; '' where it does not say or where that differs from run to run."""
    if not callable(thing):
        return ""
    try:
        told = str(inspect.signature(thing))
    except (ValueError, TypeError):
        return ""
    return "" if "<" in told else _BOUND.sub("(", told)
