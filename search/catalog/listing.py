"""Long lists as one bound parameter: no limit on their number, and one compiled statement for all lengths."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, bindparam, func, select


def among(column: ColumnElement[Any], values: Iterable[float | str]) -> ColumnElement[bool]:
    """The condition that `column` is one of `values`, which travel as a JSON array."""
    listed: BindParameter[str] = bindparam(None, json.dumps(list(values)), unique=True)
    return column.in_(select(func.json_each(listed).table_valued("value").c.value))
