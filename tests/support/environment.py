"""Environment variables, set for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables for a while."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield
