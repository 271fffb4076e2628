"""Evaluations kept in the collection's directory, to compare later ones with."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from search import partial
from search.evaluate.unlabelled import Unlabelled

log = logging.getLogger(__name__)


def read(file: Path) -> Unlabelled | None:
    """The evaluation in a file; None where there is none, or it cannot be read, which is told."""
    try:
        return Unlabelled.from_json(json.loads(file.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("the evaluation in %s cannot be read (%s); there is nothing to compare with", file, error)
        return None


def write(file: Path, kept: Unlabelled) -> None:
    """Put an evaluation in the place of the one before, whole or not at all.

    Raises:
        CollectionError: the disk is full or read-only.
    """
    with partial.whole(file, replace=True, parents=True) as place:
        place.write_text(json.dumps(kept.stored()), encoding="utf-8")
