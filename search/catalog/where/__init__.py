"""Where-expressions: the language, and the keys of the records that an expression picks."""

from search.catalog.where.condition import Condition
from search.catalog.where.language import asked, parse, understood
from search.catalog.where.matching import matching

__all__ = ["Condition", "asked", "matching", "parse", "understood"]
