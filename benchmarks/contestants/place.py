"""Where a contestant finds records and weights, and how it says what it took.

Every contestant closes its database client once it has its records: the client's threads sleep for half a
second at a time, and the end of a process waits for them.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True)
class Place:
    """What the environment says.

    Attributes:
        mongo_port: of a MongoDB server on this machine.
        database: in it, with the collection `records`.
        weights: the file of a LeNet-5's weights.
        output: the file for results.
        limit: at most this many records.
    """

    mongo_port: int
    database: str
    weights: str
    output: str
    limit: int

    def environment(self) -> dict[str, str]:
        """As variables, for a contestant's process."""
        return {f"BENCH_{name.upper()}": str(value) for name, value in vars(self).items()}

    @classmethod
    def of_environment(cls) -> Self:
        """What `environment` gave."""
        found = {name: os.environ[f"BENCH_{name.upper()}"] for name in cls.__dataclass_fields__}
        return cls(**(found | {name: int(found[name]) for name in ("mongo_port", "limit")}))  # type: ignore[arg-type]


@dataclass
class Stages:
    """Seconds by stage, imports not counted."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the enclosed time."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started

    def print_report(self) -> None:
        """Print them, for whoever started this process."""
        print(json.dumps(self.seconds))
