"""Dynamic batching: what waits while one batch is classified becomes the next one.

Nothing waits on purpose. An image that comes while nobody else is served is classified at once, alone.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mnist_ops.domain.errors import Transient
from mnist_ops.vision.inference.classifier import CPU_SLICE

# More images are no faster, on CPU.
MAX_BATCH = CPU_SLICE
# Images that may wait. They take some 25 ms, on two cores.
MAX_WAITING = 8 * MAX_BATCH

R = TypeVar("R")


class Overloaded(Transient):
    """More waits than can be answered soon: come again later."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job(Generic[R]):
    """The images of one request."""

    payloads: Sequence[bytes]
    results: "asyncio.Future[Sequence[R]]"
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)


class Batcher(Generic[R]):
    """Puts the images of concurrent requests together, and classifies them in a thread of its own.

    Its thread ends with it.

    Args:
        classify: gives a result for each image, in order; called from that thread only.
        on_batch: is told the number of images of every batch.
    """

    def __init__(
        self,
        classify: Callable[[Sequence[bytes]], Sequence[R]],
        on_batch: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._classify = classify
        self._on_batch = on_batch
        self._thread = ThreadPoolExecutor(1, "classify")
        self._lock = threading.Lock()
        self._jobs: deque[_Job[R]] = deque()
        self._waiting = 0  # images
        self._running = False

    async def classify(self, payloads: Sequence[bytes]) -> Sequence[R]:
        """The results for a request's images, 1 to 64, in order.

        Raises:
            Overloaded: too many images wait.
            MnistOpsError: what `classify` raises.
        """
        loop = asyncio.get_running_loop()
        job: _Job[R] = _Job(payloads, loop.create_future(), loop)
        with self._lock:
            if self._waiting + len(payloads) > MAX_WAITING:
                raise Overloaded(f"{self._waiting} images wait already")
            self._jobs.append(job)
            self._waiting += len(payloads)
            start, self._running = not self._running, True
        if start:
            self._thread.submit(self._run)
        return await job.results

    def _run(self) -> None:
        while jobs := self._next_batch():
            self._answer([job for job in jobs if not job.results.cancelled()])

    def _next_batch(self) -> list[_Job[R]]:
        """The jobs that wait longest, up to 64 images in all; none ends the run."""
        jobs: list[_Job[R]] = []
        images = 0
        with self._lock:
            while self._jobs and images + len(self._jobs[0].payloads) <= MAX_BATCH:
                jobs.append(self._jobs.popleft())
                images += len(jobs[-1].payloads)
            self._waiting -= images
            self._running = bool(jobs)
        return jobs

    def _answer(self, jobs: Sequence[_Job[R]]) -> None:
        payloads = [payload for job in jobs for payload in job.payloads]
        outcome: Sequence[R] | Exception
        try:
            outcome = self._classify(payloads) if payloads else []
        except Exception as error:  # noqa: BLE001 (raised again in every request that waits for it)
            outcome = error
        self._on_batch(len(payloads))
        for loop in {job.loop for job in jobs}:
            try:
                loop.call_soon_threadsafe(_resolve, loop, jobs, outcome)
            except RuntimeError:
                continue  # the loop was closed: nobody waits any more


def _resolve(
    loop: asyncio.AbstractEventLoop, jobs: Sequence[_Job[R]], outcome: Sequence[R] | Exception
) -> None:
    """Give the jobs of one event loop their results; runs in that loop."""
    start = 0
    for job in jobs:
        end = start + len(job.payloads)
        if job.loop is loop and not job.results.done():
            if isinstance(outcome, Exception):
                job.results.set_exception(outcome)
            else:
                job.results.set_result(outcome[start:end])
        start = end
