"""Statements put together with SQLAlchemy as SQLite takes them: text, and values to bind by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.base import Executable

_DIALECT = sqlite.dialect(paramstyle="named")


def compiled(statement: Executable) -> tuple[str, Mapping[str, Any]]:
    """The text of `statement`, and its values by the names that stand in it."""
    made = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
    return str(made), made.params
