"""Classify: an image shard and the pinned bundle become a prediction shard.

Row groups are decoded and classified side by side, in a thread a core unless told otherwise; reading and the
network leave Python's lock to decoding while they work. The bundle is loaded meanwhile.
"""

import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mnist_ops.domain.errors import Damaged, ItemRejected, Permanent
from mnist_ops.domain.ports import ObjectStore
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.review import REVIEW_BELOW
from mnist_ops.domain.stages import Stopwatch
from mnist_ops.steps.artifacts.bundles import download_bundle
from mnist_ops.steps.artifacts.objects import read_manifest
from mnist_ops.steps.artifacts.shards import Shard, ShardHeader, ShardWriter, open_shard
from mnist_ops.steps.prediction_table import VerdictTable
from mnist_ops.vision.inference.classifier import Predictions
from mnist_ops.vision.inference.cpu_count import cpu_count
from mnist_ops.vision.preprocessing.decode import decode_all

T = TypeVar("T")

_COLUMNS = ["record_id", "url", "reason", "detail", "retry_after_s", "sha256", "payload"]
# So many row groups are under way whatever their size, more only with fewer bytes of images than this.
_ALWAYS_AHEAD, _BYTES_AHEAD = 2, 64 << 20


class Classifier(Protocol):
    """A loaded bundle; `predict` is called from several threads at once."""

    @property
    def device(self) -> str:
        """Where it runs: cpu or cuda."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, by index."""

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities (N, classes) of images (N, 28, 28)."""

    def predict(self, images: npt.NDArray[np.uint8]) -> Predictions:
        """The same probabilities, and whether each picture is a digit at all."""


Load = Callable[[Path, str], Classifier]


def classify(
    images_uri: str,
    *,
    objects: ObjectStore,
    load: Load,
    review_below: float = REVIEW_BELOW,
    threads: int | None = None,
) -> str:
    """Classify the images of one shard with the bundle that its snapshot pinned.

    The same bytes are decoded and classified once. An image that cannot be decoded costs its
    own record a reason, and nothing else.

    Args:
        images_uri: the image shard.
        objects: where shards and bundles lie.
        load: loads a bundle from a folder, given its digest.
        review_below: a prediction with less confidence than this, 0 to 1, is marked for review; so is
            that of a picture which the bundle takes for no digit.
        threads: to decode and classify in; None for one a core.

    Returns:
        The URI of the prediction shard: one row a record, in the part's order.
    """
    watch = Stopwatch("classify", objects.requests, objects.moved)
    with open_shard(objects, images_uri, "images") as images, ShardWriter("predictions") as shard:
        manifest = read_manifest(objects, images.header.manifest)
        if manifest.champion is None:
            raise Permanent(f"{images.header.manifest}: pins no bundle, so its records cannot be classified")
        verdicts = VerdictTable(images.records, review_below)
        champion = manifest.champion
        with _Pipeline(
            lambda: _loaded(objects, champion, load), verdicts, watch, threads or cpu_count()
        ) as pipeline:
            for _ in pipeline.judged(_elsewhere(objects, images, images_uri)):
                pass
            for group in pipeline.judged(images.groups(_COLUMNS)):
                with watch.writing():
                    shard.add_group(verdicts.columns(group))
            classifier = pipeline.classifier
        report = watch.report(shard.records, pipeline.size)
        header = ShardHeader(
            kind="predictions",
            manifest=images.header.manifest,
            part=images.header.part,
            records=shard.records,
            failures=shard.failures,
            stages={**images.header.stages, "classify": report},
            source=images_uri,
            refers_to=(images_uri, *images.header.refers_to),
            labels=classifier.labels,
        )
        return shard.store(objects, manifest.generation, header)


def _loaded(objects: ObjectStore, champion: BundleRef, load: Load) -> Classifier:
    with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
        return load(download_bundle(objects, champion, Path(folder)), champion.digest)


def _elsewhere(objects: ObjectStore, images: Shard, images_uri: str) -> Iterator[pa.Table]:
    """The images that rows of a shard refer to and other shards hold: sha256 and payload.

    Raises:
        ObjectMissing, Damaged: a shard is not there, or does not hold what it should.
    """
    wanted: dict[str, set[str]] = {}
    if not images.header.refers_to:
        return
    for group in images.groups(["sha256", "image_uri"]):
        for row in group.filter(pc.is_valid(group["image_uri"])).to_pylist():
            wanted.setdefault(row["image_uri"], set()).add(row["sha256"])
    for uri, names in wanted.items():
        missing = set(names)
        with open_shard(objects, uri, "images") as other:
            for group in other.groups(["sha256", "payload"]):
                held = pc.and_(pc.is_valid(group["payload"]), pc.is_in(group["sha256"], pa.array(names)))
                found = group.filter(held)
                missing -= set(found["sha256"].to_pylist())
                yield found
        if missing:
            raise Damaged(f"{uri}: does not hold the image {min(missing)} that {images_uri} refers to")


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """What became of the images of a row group.

    Attributes:
        names: the sha256 of those that could be decoded.
        verdicts: on these, in the same order; None where there are none.
        rejected: why the others could not, by sha256.
    """

    names: list[str]
    verdicts: Predictions | None
    rejected: dict[str, ItemRejected]


@dataclass(frozen=True, slots=True, eq=False)
class _InFlight:
    """A row group whose images, of so many bytes, are being judged."""

    group: pa.Table
    size: int
    judging: Future[_Judged]


def _over_budget(waiting: deque[_InFlight]) -> bool:
    return len(waiting) > _ALWAYS_AHEAD and sum(in_flight.size for in_flight in waiting) > _BYTES_AHEAD


class _Pipeline:
    """Row groups on their way through reading, decoding and the network.

    Args:
        load: loads the bundle; called once, before anything is classified.
        verdicts: takes what it says.
        watch: measures what this thread waits for.
        threads: to decode and classify in.

    Attributes:
        size: bytes of images so far.
    """

    def __init__(
        self, load: Callable[[], Classifier], verdicts: VerdictTable, watch: Stopwatch, threads: int
    ) -> None:
        self.size = 0
        self._verdicts = verdicts
        self._watch = watch
        self._groups_ahead = threads + 1  # one for each thread, and one that none has to wait for
        self._pools = ExitStack()
        # The last one is for single pictures that take long: a group of them is decoded by all its threads.
        self._loader, self._reader, self._workers, self._decoders = (
            self._pools.enter_context(ThreadPoolExecutor(count, name))
            for count, name in ((1, "load"), (1, "read"), (threads, "classify"), (threads, "decode"))
        )
        # Decoding lets go of Python's lock for a moment at every picture. Where two did so at once they would
        # hand it to and fro; one after the other, each beside the network, they take a quarter less time.
        self._decoding = threading.Lock()
        self._classifier = self._loader.submit(self._taking_a_gpu, load)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pools.close()

    def _taking_a_gpu(self, load: Callable[[], Classifier]) -> Classifier:
        classifier = load()
        if classifier.device == "cuda":
            self._watch.gpu_taken()
        return classifier

    @property
    def classifier(self) -> Classifier:
        """The bundle, once it is loaded; waits for it."""
        with self._watch.reading():
            return self._classifier.result()

    def judged(self, groups: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Pass row groups through once the table has the verdicts on their images."""
        waiting: deque[_InFlight] = deque()
        for group in self._watch.reads(_ahead(self._reader, groups)):
            waiting.append(self._begin(group))
            while len(waiting) > self._groups_ahead or _over_budget(waiting):
                yield self._end(waiting.popleft())
        while waiting:
            yield self._end(waiting.popleft())

    def _begin(self, group: pa.Table) -> _InFlight:
        """Hand the images of a group, sha256 and payload, to the workers."""
        held = group.select(["sha256", "payload"]).filter(pc.is_valid(group["payload"]))
        # What another shard gave already comes once more where a row here holds the same bytes.
        new = [name not in self._verdicts for name in held["sha256"].to_pylist()]
        held = held if all(new) else held.filter(pa.array(new))
        size = pc.sum(pc.binary_length(held["payload"])).as_py() or 0
        self.size += size
        rest = group.drop_columns(["payload"])  # which the worker has, and forgets
        return _InFlight(rest, size, self._workers.submit(self._judge, held))

    def _judge(self, images: pa.Table) -> _Judged:
        """Decode images and classify those that could be."""
        names = images["sha256"].to_pylist()
        with self._decoding:
            digits, rejected = decode_all(images["payload"].to_pylist(), self._decoders.map)
        reasons = {names[position]: rejection for position, rejection in rejected.items()}
        if rejected:
            kept = [position for position in range(len(names)) if position not in rejected]
            names, digits = [names[position] for position in kept], digits[kept]
        return _Judged(names, self._classifier.result().predict(digits) if names else None, reasons)

    def _end(self, in_flight: _InFlight) -> pa.Table:
        with self._watch.computing():
            judged = in_flight.judging.result()
            for name, rejection in judged.rejected.items():
                self._verdicts.reject(name, rejection)
            if judged.verdicts is not None:
                self._verdicts.add(judged.names, judged.verdicts)
        return in_flight.group


def _ahead(pool: ThreadPoolExecutor, source: Iterator[T]) -> Iterator[T]:
    """Take a source's next item in another thread while the present one is worked on."""
    following = pool.submit(next, source, None)
    while (item := following.result()) is not None:
        following = pool.submit(next, source, None)
        yield item
