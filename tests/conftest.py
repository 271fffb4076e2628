"""What every test may ask for: the shared data where it is present, and no network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("NEARKIN_SHARED", REPOSITORY.parent / "shared")) / "data"


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """A path below the shared real data; the test that asks is skipped, saying so, where they are absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"needs real data that are not here: {path}")
        return path

    return find


# The same examples in every run, and no time limit: other work on the machine must not fail a test.
settings.register_profile("steady", derandomize=True, deadline=None, database=None, print_blob=True)
settings.load_profile("steady")
