"""The standard library as data: the docstrings of its public names, and which of its modules imports which."""

from __future__ import annotations

import ast
import csv
import json
import re
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

# fmt: off
# Not what a program imports: tests, installers, tables of characters, the parts of an editor, windows; what
# Python 3.13 took out (PEP 594 and its kin); and, inside of multiprocessing, how it starts its processes.
_SKIPPED = frozenset((
    "__pycache__", "dist-packages", "distutils", "encodings", "ensurepip", "idlelib", "lib-dynload", "lib2to3",
    "msilib", "pydoc_data", "site-packages", "test", "tests", "tkinter", "turtle", "turtledemo",
    "aifc", "asynchat", "asyncore", "cgi", "cgitb", "chunk", "crypt", "imghdr", "imp", "mailcap", "nntplib",
    "pipes", "smtpd", "sndhdr", "sre_compile", "sre_constants", "sre_parse", "sunau", "telnetlib", "uu", "xdrlib",
    "dummy", "forkserver", "popen_fork", "popen_forkserver", "popen_spawn_posix", "popen_spawn_win32",
    "resource_sharer", "resource_tracker", "spawn",
))
# Where methods are what a program looks for; those of all other classes would double the time for little.
_WITH_METHODS = frozenset((
    "argparse", "builtins", "collections", "configparser", "csv", "datetime", "io", "pathlib", "queue", "random",
    "sqlite3", "string", "threading", "zipfile",
))
# fmt: on
_CONTENTS = 40  # names told of a module that says nothing about itself

# What an opening comment may hold that says nothing of the module.
_FORMAL = re.compile(
    r"copyright|licen[sc]e|permission|warrant|author|contact:|all rights|coding[:=]|python (module|package)"
    r"|\$Id|^\S+$|^/|^[-=*#\s]*$",
    re.I,
)

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Doc:
    """What is documented under a qualified name: a module, a class, a function or a method."""

    id: str
    kind: str
    module: str
    signature: str
    docstring: str

    def to_json(self) -> dict[str, str]:
        """One line of the .jsonl. The signature is not in the text: the names of arguments would drown the rest."""
        return {
            "id": self.id,
            "text": f"{self.id}\n\n{self.docstring}",
            "kind": self.kind,
            "module": self.module,
            "signature": self.signature,
        }


@dataclass(frozen=True, slots=True)
class Module:
    """A public module that has source: its dotted name, what its file says, and the comment that opens it."""

    name: str
    is_package: bool
    tree: ast.Module
    comment: str


def source_root() -> Path:
    """The folder of the standard library of the Python that runs."""
    return Path(sysconfig.get_paths()["stdlib"])


def modules(root: Path, packages: Sequence[str] | None = None) -> list[Module]:
    """The public modules below `root`, by name; parsed and never imported, for importing has side effects.

    Args:
        root: a folder of modules and packages.
        packages: the top-level names to take; None takes all.
    """
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = list(path.relative_to(root).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        if is_package:
            parts.pop()
        hidden = any(part.startswith(("_", "config-")) or part in _SKIPPED for part in parts)
        if not parts or hidden or (packages is not None and parts[0] not in packages):
            continue
        try:
            source = path.read_bytes()
            tree = ast.parse(source)
        except SyntaxError:  # a file that is meant to be broken, or of another Python
            continue
        comment = _opening_comment(source.decode("utf-8", "replace"))
        found.append(Module(".".join(parts), is_package, tree, comment))
    return sorted(found, key=lambda module: module.name)


def documents(module: Module, otherwise: str = "") -> Iterator[Doc]:
    """The module itself, and each public class, function and method in it that has a docstring.

    Methods are taken only from the modules where they are what a program looks for. `otherwise` stands in where
    the module itself has neither a docstring nor an opening comment.
    """
    definitions = list(_definitions(module.tree.body))
    yield Doc(
        module.name, "module", module.name, f"module {module.name}", _about(module, definitions, otherwise)
    )
    seen = set()
    for node in definitions:
        id = f"{module.name}.{node.name}"
        if id in seen:  # defined again for another platform
            continue
        docstring = _docstring(node)
        if docstring:
            seen.add(id)
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            yield Doc(id, kind, module.name, _signature(id, node), docstring)
        if not isinstance(node, ast.ClassDef) or not with_methods(module.name):
            continue
        for inner in _definitions(node.body):
            docstring = ast.get_docstring(inner)
            inner_id = f"{id}.{inner.name}"
            if docstring and inner_id not in seen and not isinstance(inner, ast.ClassDef):
                seen.add(inner_id)
                signature = _signature(inner_id, inner, is_method=True)
                yield Doc(inner_id, "method", module.name, signature, docstring)


def _opening_comment(source: str) -> str:
    """The comment at the top of a file, which some modules have in place of a docstring; no legal lines, no names."""
    lines = []
    for line in source.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#!").strip())
    paragraphs = re.split(r"\n{2,}", "\n".join(lines).strip())
    return "\n\n".join(one for one in paragraphs if not _FORMAL.search(one))


def with_methods(module: str) -> bool:
    """Whether the methods of this module's classes are records too."""
    return module.partition(".")[0] in _WITH_METHODS


def _about(module: Module, definitions: Iterable[Definition], otherwise: str) -> str:
    told = ast.get_docstring(module.tree) or module.comment or otherwise
    if told:
        return told
    names = list(dict.fromkeys(node.name for node in definitions))[:_CONTENTS]
    if names:
        return f"Defines {', '.join(names)}."
    return "A package of modules." if module.is_package else "A module."


def _definitions(body: Iterable[ast.stmt]) -> Iterator[Definition]:
    """Public classes and functions, those under an `if` or a `try` too."""
    for node in body:
        if isinstance(node, Definition):
            if not node.name.startswith("_"):
                yield node
        elif isinstance(node, ast.If):
            yield from _definitions([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            handled = [inner for handler in node.handlers for inner in handler.body]
            yield from _definitions([*node.body, *node.orelse, *handled])


def _docstring(node: Definition) -> str | None:
    """What it says of itself; a class may say it where it is made."""
    told = ast.get_docstring(node)
    maker = _maker(node) if isinstance(node, ast.ClassDef) and not told else None
    return ast.get_docstring(maker) if maker is not None else told


def _maker(node: ast.ClassDef) -> ast.FunctionDef | None:
    makers = (inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__")
    return next(makers, None)


def _signature(id: str, node: Definition, *, is_method: bool = False) -> str:
    """How it is called, or the class with its bases where it says nothing about that."""
    if isinstance(node, ast.ClassDef):
        maker = _maker(node)
        if maker is not None:
            return f"class {id}({_arguments(maker, bound=True)})"
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {id}({bases})" if bases else f"class {id}"
    static = any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in node.decorator_list)
    if any(isinstance(one, ast.Name) and one.id == "property" for one in node.decorator_list):
        return id
    before = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{before}{id}({_arguments(node, bound=is_method and not static)})"


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef, *, bound: bool) -> str:
    """The arguments as written; without the object itself where it is bound."""
    told = ast.unparse(node.args)
    first = [*node.args.posonlyargs, *node.args.args][:1]
    if not bound or not first:
        return told
    rest = told.removeprefix(ast.unparse(first[0])).removeprefix(", ")
    return rest.removeprefix("/").removeprefix(", ")


def imports(module: Module, known: Iterable[str]) -> set[str]:
    """Which of the `known` modules this one imports, anywhere in it."""
    names = known if isinstance(known, set | frozenset | dict) else set(known)
    found: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found.update(_nearest(alias.name, names) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            found.update(
                _nearest(f"{base}.{alias.name}" if base else alias.name, names) for alias in node.names
            )
    return found - {"", module.name}


def _base(module: Module, node: ast.ImportFrom) -> str:
    """The module that `from … import` names, its dots resolved."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _nearest(name: str, known: set[str] | frozenset[str] | dict[str, object]) -> str:
    """The longest known module that `name` is or is in; '' if there is none."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def write_documents(path: Path, docs: Iterable[Doc]) -> int:
    """Write them as .jsonl, each id once (the first stands); how many there are."""
    seen = set()
    with path.open("w", encoding="utf-8") as file:
        for doc in docs:
            if doc.id not in seen:
                seen.add(doc.id)
                file.write(json.dumps(doc.to_json(), ensure_ascii=False) + "\n")
    return len(seen)


def write_imports(path: Path, edges: Mapping[str, Iterable[str]]) -> int:
    """Write which module (source) imports which (target) as .csv; how many edges there are."""
    rows = [(name, target) for name in sorted(edges) for target in sorted(edges[name])]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("source", "target"))
        writer.writerows(rows)
    return len(rows)
