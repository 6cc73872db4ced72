"""`mnist-ops watch`: label records as they arrive, without Airflow."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from mnist_ops.cli._support.options import pipeline
from mnist_ops.connections import read_connection
from mnist_ops.domain.arrivals import Wake
from mnist_ops.domain.errors import MnistOpsError

if TYPE_CHECKING:
    from mnist_ops.adapters.mongo.change_stream import MongoChanges
    from mnist_ops.pipeline import Pipeline
    from mnist_ops.settings import Settings

_log = logging.getLogger(__name__)

_DEBOUNCE_S = 0.1
# No schedule finds the records whose next attempt is due.
_DUE_EVERY_S = 60.0
_LONGEST_PAUSE_S = 60.0
# Every run has some thirty lines of them; one is enough where a run follows the other.
_TALKATIVE, _ALSO_QUIET = "mnist_ops", ("mnist_ops.steps.watch", "mnist_ops.cli")


class Runs(Protocol):
    """Labels the records that wait: `ArrivalRuns`."""

    @property
    def steps(self) -> "Pipeline":
        """The pipeline."""

    def label(self, wake: Wake) -> None:
        """Label the records that wait; called in another thread."""


def watch(
    interval: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="The least time between two runs.")
    ] = 1.0,
) -> None:
    """Label records within seconds after they arrive, until it is stopped; SIGTERM or Ctrl-C stops it.

    It finishes the run in progress first. What arrives while it is down is labelled after its next start.
    """
    from mnist_ops.cli._support.arrivals import ArrivalRuns
    from mnist_ops.cli._support.whole_runs import OpenTools
    from mnist_ops.steps.artifacts.bundles import BundleCache

    steps = pipeline()
    with steps.adapters.images() as images:
        runs = ArrivalRuns(steps, OpenTools(images, BundleCache()))
        runs.warm_up()
        if not _log.isEnabledFor(logging.DEBUG):
            logging.getLogger(_TALKATIVE).setLevel(logging.WARNING)
            for name in _ALSO_QUIET:
                logging.getLogger(name).setLevel(logging.getLogger().level)
        asyncio.run(label_arrivals(runs, steps.settings, interval))


async def label_arrivals(runs: "Runs", settings: "Settings", interval_s: float) -> None:
    """Run whenever records arrive, until SIGINT or SIGTERM comes.

    Args:
        runs: labels the records that wait.
        settings: where the records are.
        interval_s: the least time between two runs, in seconds.
    """
    from mnist_ops.steps.watch import Clock, Pace, Watch

    stop = _Stop()
    async with _changes(settings) as place:
        watching = Watch(
            connect=lambda: _changes(settings),
            tokens=place.tokens("mnist-ops watch"),
            pace=Pace(_DEBOUNCE_S, interval_s, due_every_s=_DUE_EVERY_S),
            clock=Clock(runs.steps.now, time.monotonic, asyncio.sleep),
        )
        try:
            async with aclosing(watching.wakes()) as wakes:
                async for wake in wakes:
                    await _labelled(runs, wake, stop)
        except asyncio.CancelledError:
            if not stop.asked:
                raise
    _log.info("stopped")


async def _labelled(runs: "Runs", wake: Wake, stop: "_Stop") -> None:
    """Run until the records are labelled; a run that fails is tried again, less and less often."""
    pause_s = 1.0
    while True:
        try:
            with stop.postponed():
                await asyncio.to_thread(runs.label, wake)
        except MnistOpsError as error:
            _log.error("the run failed, next try in %.0f s: %s", pause_s, error)
        else:
            return
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


@asynccontextmanager
async def _changes(settings: "Settings") -> AsyncIterator["MongoChanges"]:
    from mnist_ops.adapters.mongo.change_stream import connected_changes

    where = read_connection("mongo_default", os.environ, settings.local_dir)
    place = (settings.mongo_database, settings.mongo_collection)
    async with connected_changes(where, place, settings.fields, _DEBOUNCE_S) as changes:
        yield changes


class _Stop:
    """SIGINT or SIGTERM cancels this task: at once, or once what must not be disturbed has ended.

    The second signal does what it does by default.

    Attributes:
        asked: whether one has come.
    """

    def __init__(self) -> None:
        self.asked = False
        self._postponed = False
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._ask)

    def _ask(self) -> None:
        self.asked = True
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)
        if self._postponed:
            _log.info("stops after the run in progress")
        else:
            self._cancel()

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Let a signal wait for the end of what is inside."""
        self._postponed = True
        try:
            yield
        finally:
            self._postponed = False
            if self.asked:
                self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
