"""The thread pools of classify: row groups of images are read, decoded and classified at the same time.

One thread reads ahead. Several threads each decode and classify one row group. Another thread loads the
bundle while the first groups are decoded. Reading and the network release Python's lock while they work, so
decoding continues meanwhile. The order of the row groups is kept.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts.bundles import Classifier
from mnist_ops.steps.prediction_table import PredictionTable
from mnist_ops.vision.inference.predict import Classified, classify_payloads
from mnist_ops.vision.preprocessing.decode import decode_all

T = TypeVar("T")

# Always up to 2 row groups are in flight; more only while their images have at most 64 MiB in all.
_ALWAYS_IN_FLIGHT, _BYTES_IN_FLIGHT = 2, 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class _InFlight:
    """A row group whose images are being decoded and classified.

    Attributes:
        group: its other columns.
        digests: the sha256 of its new images.
        image_bytes: their size.
        result: what became of them, in the same order.
    """

    group: pa.Table
    digests: list[str]
    image_bytes: int
    result: Future[Classified]


class ClassifyPipeline:
    """Decodes and classifies the images of row groups.

    Args:
        load: loads the bundle; called once.
        table: takes the predictions and the rejections.
        watch: measures what the calling thread waits for.
        threads: the number of threads that decode and classify.

    Attributes:
        image_bytes: bytes of images so far.
    """

    def __init__(
        self, load: Callable[[], Classifier], table: PredictionTable, watch: Stopwatch, threads: int
    ) -> None:
        self.image_bytes = 0
        self._table = table
        self._watch = watch
        self._max_in_flight = threads + 1  # one a thread, and one so that no thread has to wait
        self._pools = ExitStack()
        # `decoders` is for images that take long to decode: all its threads share those of one group.
        self._loader, self._reader, self._workers, self._decoders = (
            self._pools.enter_context(ThreadPoolExecutor(count, name))
            for count, name in ((1, "load"), (1, "read"), (threads, "classify"), (threads, "decode"))
        )
        # One group at a time is decoded, while others are in the network. Decoding releases Python's lock for
        # a moment at every image: two groups that decode at the same time pass the lock to and fro, and take
        # a third longer.
        self._decoding = threading.Lock()
        self._classifier = self._loader.submit(self._load, load)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pools.close()

    def _load(self, load: Callable[[], Classifier]) -> Classifier:
        classifier = load()
        if classifier.device == "cuda":
            self._watch.gpu_taken()
        return classifier

    @property
    def classifier(self) -> Classifier:
        """The loaded bundle; waits for it."""
        with self._watch.reading():
            return self._classifier.result()

    def classified(self, groups: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Pass row groups through, without their payloads, once their images are in the table.

        Args:
            groups: tables with the columns `sha256` and `payload`, and any others.
        """
        in_flight: deque[_InFlight] = deque()
        for group in self._watch.reads(_read_ahead(self._reader, groups)):
            in_flight.append(self._submit(group))
            while len(in_flight) > self._max_in_flight or _too_many_bytes(in_flight):
                yield self._finish(in_flight.popleft())
        while in_flight:
            yield self._finish(in_flight.popleft())

    def _submit(self, group: pa.Table) -> _InFlight:
        images = group.select(["sha256", "payload"]).filter(pc.is_valid(group["payload"]))
        # The table may have an image already, from an earlier shard.
        new = [sha256 not in self._table for sha256 in images["sha256"].to_pylist()]
        images = images if all(new) else images.filter(pa.array(new))
        size = pc.sum(pc.binary_length(images["payload"])).as_py() or 0
        self.image_bytes += size
        # Only the worker keeps the payloads, so that they are freed as soon as they are decoded.
        rest = group.drop_columns(["payload"])
        result = self._workers.submit(self._classify, images["payload"])
        return _InFlight(rest, images["sha256"].to_pylist(), size, result)

    def _classify(self, payloads: pa.ChunkedArray) -> Classified:
        """Decode images, and classify those that could be decoded."""
        return classify_payloads(
            payloads.to_pylist(), lambda digits: self._classifier.result().predict(digits), self._decode
        )

    def _decode(self, payloads: Sequence[bytes]) -> tuple[NDArray[np.uint8], Mapping[int, ItemRejected]]:
        with self._decoding:
            return decode_all(payloads, self._decoders.map)

    def _finish(self, in_flight: _InFlight) -> pa.Table:
        with self._watch.computing():
            result, digests = in_flight.result.result(), in_flight.digests
            for position, rejection in result.rejected.items():
                self._table.reject(digests[position], rejection)
            if result.predictions is not None:
                self._table.add([digests[position] for position in result.positions], result.predictions)
        return in_flight.group


def _too_many_bytes(in_flight: deque[_InFlight]) -> bool:
    return len(in_flight) > _ALWAYS_IN_FLIGHT and sum(one.image_bytes for one in in_flight) > _BYTES_IN_FLIGHT


def _read_ahead(pool: ThreadPoolExecutor, source: Iterator[T]) -> Iterator[T]:
    """Read a source's next item in another thread while the caller works on the present one."""
    following = pool.submit(next, source, None)
    while (item := following.result()) is not None:
        following = pool.submit(next, source, None)
        yield item
