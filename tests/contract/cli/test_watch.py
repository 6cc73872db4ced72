"""`mnist-ops watch` on SecantusDB, with runs that only say when they were asked for."""

import asyncio
import json
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from mnist_ops.cli.watch import label_arrivals
from mnist_ops.domain.arrivals import Cause, Wake
from mnist_ops.domain.errors import Transient
from mnist_ops.pipeline import Pipeline
from mnist_ops.settings import Settings
from tests.support.doubles import Doubles

TIMEOUT_S = 20.0


@dataclass
class Runs:
    """What the watch asks for.

    Attributes:
        fail: the errors of the next runs.
        asked: the wakes, and how many of them are done.
    """

    steps: Pipeline = field(default_factory=lambda: Pipeline(Doubles()))
    fail: list[Exception] = field(default_factory=list)
    asked: list[Wake] = field(default_factory=list)
    done: int = 0
    begun: threading.Event = field(default_factory=threading.Event)
    takes_s: float = 0.0

    def label(self, wake: Wake) -> None:
        """Take some time."""
        self.asked.append(wake)
        self.begun.set()
        if self.fail:
            raise self.fail.pop(0)
        time.sleep(self.takes_s)
        self.done += 1


@pytest.fixture
def settings(database, mongo_port, monkeypatch) -> Settings:
    """Records of the test's own."""
    connection = {"conn_type": "mongo", "host": "127.0.0.1", "port": mongo_port}
    monkeypatch.setenv("AIRFLOW_CONN_MONGO_DEFAULT", json.dumps(connection))
    return Settings(mongo_database=database.name)


def watched(runs: Runs, settings: Settings, database: Any) -> None:
    """Watch until a signal has ended it: that comes while the first run after an insert is in progress."""
    ended = threading.Event()

    def interfere() -> None:
        records, deadline = database["records"], time.monotonic() + TIMEOUT_S
        while not runs.begun.wait(0.2) and not ended.is_set() and time.monotonic() < deadline:
            records.insert_one({"created_at": datetime.now(UTC), "image_url": "http://images/1.png"})
        while runs.fail and not ended.is_set():
            time.sleep(0.05)
        # Where nobody takes the signal, it would end the tests.
        if runs.begun.is_set() and not ended.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    other = threading.Thread(target=interfere)
    other.start()
    try:
        asyncio.run(asyncio.wait_for(label_arrivals(runs, settings, interval_s=0.0), TIMEOUT_S))
    finally:
        ended.set()
        other.join()


def test_an_insert_wakes_a_run_and_a_signal_ends_the_watch_after_it(settings, database) -> None:
    """What is begun is finished."""
    runs = Runs(takes_s=0.5)
    watched(runs, settings, database)
    assert runs.done == 1
    assert runs.asked[0].cause in {Cause.CHANGED, Cause.STARTED}


def test_a_run_that_fails_is_tried_again(settings, database, caplog) -> None:
    """The object store may be away for a while; the watch goes on."""
    runs = Runs(fail=[Transient("S3 does not answer")])
    watched(runs, settings, database)
    assert "the run failed, next try in 1 s: S3 does not answer" in caplog.text
