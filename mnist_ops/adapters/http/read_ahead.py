"""The tasks of one fetch in the order of their URLs: read, but not yet taken by the caller."""

from collections import deque
from collections.abc import Iterator, Mapping

from mnist_ops.adapters.http.hosts import FetchTask
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.domain.images import FetchedImage, FetchOutcome, Validators

# Memory of a URL besides its body: our objects, and as much again for the caller's record.
_TASK_BYTES = 1024


class ReadAheadBuffer:
    """Reads URLs ahead, within a bound of count and of memory, and returns outcomes in order.

    Attributes:
        stalled: how many of the pending tasks do not count, because they wait for hosts that do not answer.
    """

    __slots__ = ("_body_bytes", "_known", "_pending", "_policy", "_tasks", "_urls", "stalled")

    def __init__(self, urls: Iterator[str], known: Mapping[str, Validators], policy: FetchPolicy) -> None:
        self._urls: Iterator[str] | None = urls
        self._known = known
        self._policy = policy
        self._tasks: deque[FetchTask] = deque()
        self._pending = 0
        self._body_bytes = 0
        self.stalled = 0

    def __bool__(self) -> bool:
        """Whether any task is left."""
        return bool(self._tasks)

    @property
    def at_count_limit(self) -> bool:
        """Whether no more URLs may be read, because too many tasks are pending."""
        return self._pending - self.stalled >= self._policy.read_ahead_count

    @property
    def at_memory_limit(self) -> bool:
        """Whether no more memory may be used, except for the oldest task."""
        return self._body_bytes + _TASK_BYTES * len(self._tasks) >= self._policy.read_ahead_bytes

    @property
    def oldest_is_queued(self) -> bool:
        """Whether the oldest task, which the caller waits for, has no request yet."""
        return bool(self._tasks) and self._tasks[0].queued

    @property
    def oldest_is_complete(self) -> bool:
        """Whether there is an outcome to take."""
        return bool(self._tasks) and self._tasks[0].outcome is not None

    def read(self) -> FetchTask | None:
        """Read one more URL; None if there is none, or at the count limit."""
        if self._urls is None or self.at_count_limit:
            return None
        url = next(self._urls, None)
        if url is None:
            self._urls = None
            return None
        task = FetchTask(url, self._known.get(url))
        self._tasks.append(task)
        self._pending += 1
        return task

    def complete(self, task: FetchTask, outcome: FetchOutcome) -> None:
        """Set the outcome of a task."""
        task.outcome = outcome
        self._pending -= 1
        if type(outcome) is FetchedImage:
            self._body_bytes += len(outcome.payload)

    def take(self, limit: int) -> Iterator[FetchOutcome]:
        """Yield up to `limit` outcomes in order, up to the first task that is not complete."""
        tasks = self._tasks
        for _ in range(limit):
            if not tasks or (outcome := tasks[0].outcome) is None:
                return
            tasks.popleft()
            # The caller may hold the body until it asks for the next outcome, so it counts until then.
            yield outcome
            if type(outcome) is FetchedImage:
                self._body_bytes -= len(outcome.payload)
