"""Classify: an image shard and the pinned bundle become a prediction shard."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.images import FetchFailure
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import BundleRef
from mnist_ops.local.sample_digits import png
from mnist_ops.steps.artifacts.shard_kinds import IMAGES, PREDICTIONS, PredictionRow
from mnist_ops.steps.artifacts.shards import Shard, ShardWriter, open_shard
from mnist_ops.steps.classify import classify
from mnist_ops.vision.inference.classifier import Predictions
from mnist_ops.vision.preprocessing.decode import decode_all
from tests.support.pipeline_in_memory import (
    MODEL,
    PROMOTION,
    Pipeline,
    label_of,
    png_of,
    shard_rows,
    url_of,
)


class Counting:
    """A classifier that records how many images it was given, and takes all or none of them for digits."""

    device = "cpu"

    def __init__(self, probabilities: list[float] | None = None, score: float = 0.0) -> None:
        self.labels = DIGITS.names
        self.given: list[int] = []
        self._row = probabilities or [1.0, *[0.0] * 9]
        self._score = score

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Give all the same probabilities."""
        return self.predict(images).probabilities

    def predict(self, images: np.ndarray) -> Predictions:
        """Give all the same prediction; a score over 1 is not a digit."""
        self.given.append(len(images))
        scores = np.full(len(images), self._score, np.float32)
        return Predictions(np.array([self._row] * len(images), np.float32), scores, scores > 1)


def predictions(pipeline: Pipeline, **selection: object) -> list[PredictionRow]:
    """Return the prediction rows of a snapshot of one part."""
    (shard,) = pipeline.predictions_of(pipeline.snapshot(**selection))
    return shard_rows(pipeline.objects, PREDICTIONS, shard)


def said_by(classifier: Counting, pipeline: Pipeline, review_below: float = 0.9) -> list[PredictionRow]:
    """Return the prediction rows that another classifier gives."""
    (images,) = pipeline.fetch(pipeline.snapshot())
    shard = classify(
        images, objects=pipeline.objects, load=lambda _folder, _digest: classifier, review_below=review_below
    )
    return shard_rows(pipeline.objects, PREDICTIONS, shard)


def test_most_digits_that_were_never_trained_on_are_recognised(pipeline: Pipeline) -> None:
    """The bundle, its preprocessing and its label table fit each other (a guess would be right on 10 %)."""
    for number in range(100):
        pipeline.add_digit(number, number)
    rows = predictions(pipeline)
    right = [DIGITS.name(row["index"]) == label_of(n) for n, row in enumerate(rows)]  # type: ignore[arg-type]
    assert sum(right) >= 80


def test_probabilities_are_finite_and_sum_to_one(pipeline: Pipeline) -> None:
    """Within a millionth, as they are stored."""
    for number in range(100):
        pipeline.add_digit(number, number)
    rows = predictions(pipeline)
    probabilities = np.array([row["probabilities"] for row in rows], np.float64)
    assert np.isfinite(probabilities).all()
    assert probabilities.min() >= 0
    assert np.abs(probabilities.sum(axis=1) - 1).max() <= 1e-6


def test_the_index_is_the_argmax_and_the_confidence_its_probability(pipeline: Pipeline) -> None:
    """Of every row."""
    for number in range(50):
        pipeline.add_digit(number, number)
    for row in predictions(pipeline):
        probabilities: list[float] = row["probabilities"]  # type: ignore[assignment]
        assert row["index"] == int(np.argmax(probabilities))
        assert row["confidence"] == max(probabilities)


def test_equal_bytes_are_classified_once_a_part(pipeline: Pipeline) -> None:
    """And every record of them gets the prediction."""
    for record_id, number in ((1, 0), (2, 0), (3, 1), (4, 0)):
        pipeline.add_digit(record_id, number)
    counting = Counting()
    rows = said_by(counting, pipeline)
    assert counting.given == [2]
    assert [row["index"] for row in rows] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not_an_image"),
        (b"<html>not found</html>", "not_an_image"),
        (png_of(0)[:60], "unreadable_image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 5_000_000, "too_large"),
    ],
    ids=["empty", "page", "truncated", "large"],
)
def test_an_undecodable_image_affects_its_records_only(
    pipeline: Pipeline, payload: bytes, reason: str
) -> None:
    """Its neighbours in the same batch are predicted, and all records of its bytes carry the reason."""
    for record_id in (1, 2, 3, 4):
        pipeline.add_digit(record_id, record_id)
    pipeline.images.images |= {url_of(2): payload, url_of(4): payload}
    rows = predictions(pipeline)
    assert [row["reason"] for row in rows] == [None, reason, None, reason]
    assert all(row["detail"] for row in (rows[1], rows[3]))
    assert [row["index"] is None for row in rows] == [False, True, False, True]


def test_a_part_of_undecodable_images_alone_is_classified(pipeline: Pipeline) -> None:
    """There may be nothing at all for the network."""
    pipeline.add(1)
    pipeline.images.images[url_of(1)] = b"text"
    assert [row["reason"] for row in predictions(pipeline)] == ["not_an_image"]


def test_a_failure_of_the_fetch_is_passed_on(pipeline: Pipeline) -> None:
    """Reason, detail and the server's Retry-After, for the record's next attempt."""
    pipeline.add(1)
    url = url_of(1)
    pipeline.images.images[url] = FetchFailure(url, Reason.RATE_LIMITED, "later", 429, retry_after_s=60.0)
    (row,) = predictions(pipeline)
    assert (row["reason"], row["detail"], row["retry_after_s"]) == ("rate_limited", "later", 60.0)
    assert row["probabilities"] is None


@pytest.mark.parametrize(
    ("confidence", "review_below", "needs_review"),
    [(0.5, 0.75, True), (0.75, 0.75, False), (0.875, 0.75, False), (0.5, 0.0, False), (1.0, 1.0, False)],
)
def test_a_prediction_under_the_threshold_needs_review(
    pipeline: Pipeline, confidence: float, review_below: float, needs_review: bool
) -> None:
    """Exactly at the threshold it does not."""
    pipeline.add_digit(1, 0)
    counting = Counting([confidence, 1 - confidence, *[0.0] * 8])
    (row,) = said_by(counting, pipeline, review_below)
    assert row["needs_review"] is needs_review
    assert row["review_reason"] == ("low_confidence" if needs_review else None)


@pytest.mark.parametrize("confidence", [0.5, 1.0])
def test_a_picture_that_is_no_digit_needs_review_however_sure_the_network_is(
    pipeline: Pipeline, confidence: float
) -> None:
    """It is predicted anyway, and `not_a_digit` wins over `low_confidence`."""
    pipeline.add_digit(1, 0)
    (row,) = said_by(Counting([confidence, 1 - confidence, *[0.0] * 8], score=1.5), pipeline)
    assert (row["needs_review"], row["review_reason"]) == (True, "not_a_digit")
    assert (row["reason"], row["index"], row["not_a_digit_score"]) == (None, 0, 1.5)


def test_noise_is_taken_for_no_digit_by_the_bundle_itself(pipeline: Pipeline) -> None:
    """The score and its threshold come with the model."""
    pipeline.add(1)
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    pipeline.images.images[url_of(1)] = png(noise)
    (row,) = predictions(pipeline)
    assert row["review_reason"] == "not_a_digit"


def test_a_shard_names_the_label_table_of_its_bundle(pipeline: Pipeline) -> None:
    """The label is looked up in the table that the weights were trained with."""
    pipeline.add_digit(1, 0)
    (uri,) = pipeline.predictions_of(pipeline.snapshot())
    with open_shard(pipeline.objects, uri, PREDICTIONS) as shard:
        assert shard.header.labels == DIGITS.names
        assert set(shard.header.stages) == {"fetch", "classify"}


def test_the_pinned_bundle_is_used_whatever_was_promoted_since(
    pipeline: Pipeline, champion: BundleRef
) -> None:
    """Every part of a run is classified by one bundle."""
    pipeline.add_digit(1, 0)
    images = pipeline.fetch(pipeline.snapshot())
    before = pipeline.classify(images)
    pipeline.models.promote(BundleRef(MODEL, 2, "memory://nowhere", "sha256:newer"), champion, PROMOTION)
    loaded = []

    def load(folder: Path, digest: str) -> object:
        loaded.append(digest)
        return pipeline.load(folder, digest)

    again = [classify(uri, objects=pipeline.objects, load=load) for uri in images]  # type: ignore[arg-type]
    assert loaded == [champion.digest]
    assert [shard_rows(pipeline.objects, PREDICTIONS, uri) for uri in again] == [
        shard_rows(pipeline.objects, PREDICTIONS, uri) for uri in before
    ]


@pytest.mark.parametrize("position", [0, 100, -1])
def test_a_damaged_image_shard_is_refused(pipeline: Pipeline, position: int) -> None:
    """One flipped bit is enough, and nothing is written."""
    pipeline.add_digit(1, 0)
    (uri,) = pipeline.fetch(pipeline.snapshot())
    key = uri.removeprefix(pipeline.objects.uri(""))
    data = bytearray(pipeline.objects.objects[key])
    data[position] ^= 1
    pipeline.objects.objects[key] = bytes(data)
    with pytest.raises(Damaged, match="sha256"):
        pipeline.classify([uri])
    assert not list(pipeline.objects.keys("predictions/"))


@pytest.mark.parametrize(
    "name", ["card.json", "model.onnx", "weights.safetensors", "golden.npz", "abstention.npz"]
)
def test_a_damaged_bundle_is_refused_before_inference(
    pipeline: Pipeline, champion: BundleRef, name: str
) -> None:
    """Any of its files may differ from the released one."""
    pipeline.add_digit(1, 0)
    images = pipeline.fetch(pipeline.snapshot())
    key = f"{champion.uri}/{name}".removeprefix(pipeline.objects.uri(""))
    data = bytearray(pipeline.objects.objects[key])
    data[len(data) // 2] ^= 1
    pipeline.objects.objects[key] = bytes(data)
    with pytest.raises(Damaged, match=name):
        pipeline.classify(images)
    assert not list(pipeline.objects.keys("predictions/"))


def test_a_bundle_that_names_a_file_outside_its_folder_is_refused(pipeline: Pipeline) -> None:
    """A card must not write into the worker's other files."""
    card = json.dumps({"files": {"../../outside": sha256_hex(b"")}}).encode()
    uri = pipeline.objects.put_bytes("models/evil/card.json", card).removesuffix("/card.json")
    evil = BundleRef(MODEL, 2, uri, f"sha256:{sha256_hex(card)}")
    assert pipeline.models.promote(evil, pipeline.models.champion(MODEL), PROMOTION)
    pipeline.add_digit(1, 0)
    images = pipeline.fetch(pipeline.snapshot())
    with pytest.raises(Damaged, match="outside"):
        pipeline.classify(images)


def test_a_labelled_snapshot_is_not_classified(pipeline: Pipeline) -> None:
    """It pins no bundle, and a human label is not overruled."""
    pipeline.add_digit(1, 0, label="seven")
    images = pipeline.fetch(pipeline.snapshot(labelled=True))
    with pytest.raises(Permanent, match="pins no bundle"):
        pipeline.classify(images)


def test_a_shard_of_another_kind_is_refused_by_name(pipeline: Pipeline) -> None:
    """The error about a wrong URI on the command line names both kinds."""
    pipeline.add_digit(1, 0)
    predicted = pipeline.predictions_of(pipeline.snapshot())
    with pytest.raises(Damaged, match="a shard of predictions, expected images"):
        pipeline.classify(predicted)


def test_an_object_that_is_no_shard_is_refused(pipeline: Pipeline) -> None:
    """The URI may name any other object: the error is one of this library's."""
    pipeline.add_digit(1, 0)
    manifest = pipeline.snapshot()
    with pytest.raises(Damaged):
        pipeline.classify([manifest])


def test_an_image_that_another_shard_holds_is_classified_from_there(pipeline: Pipeline) -> None:
    """A reference is as good as the bytes: the same prediction, and the network sees each image once."""
    pipeline.add_digit(1, 0, label="seven")
    pipeline.add_digit(2, 0)
    pipeline.add_digit(3, 5)
    dataset = pipeline.dataset("train/1")
    (direct,) = pipeline.predictions_of(pipeline.snapshot("direct/1"))
    pipeline.records.insert(pipeline.records.document(1) | {"label": None})
    (images,) = pipeline.fetch(pipeline.snapshot("reuse/1"), reuse=dataset)
    counting = Counting()
    classify(images, objects=pipeline.objects, load=lambda _folder, _digest: counting)
    assert sum(counting.given) == 2
    referring, *rest = shard_rows(pipeline.objects, PREDICTIONS, *pipeline.classify([images]))
    assert referring | {"record_id": rest[0]["record_id"], "url": rest[0]["url"]} == rest[0]
    assert rest == shard_rows(pipeline.objects, PREDICTIONS, direct)


def test_a_shard_that_does_not_hold_what_another_refers_to_is_damaged(pipeline: Pipeline) -> None:
    """The error names the image and both shards."""
    pipeline.add_digit(1, 0)
    pipeline.add_digit(2, 1)
    first, second = pipeline.fetch(pipeline.snapshot(records_per_part=1))
    with open_shard(pipeline.objects, first, IMAGES) as shard, ShardWriter(IMAGES) as writer:
        for row in shard.rows():
            writer.add(row | {"payload": None, "image_uri": second})
        generation = pipeline.manifest(shard.header.manifest).generation
        referring = writer.store(pipeline.objects, generation, shard.header)
    with pytest.raises(Damaged, match=f"{second}.*{sha256_hex(png_of(0))}.*{referring}"):
        pipeline.classify([referring])


def test_a_row_whose_image_is_nowhere_is_damaged(pipeline: Pipeline) -> None:
    """Neither here nor referred to: the record must not end without an outcome."""
    pipeline.add_digit(1, 0)
    (images,) = pipeline.fetch(pipeline.snapshot())
    with open_shard(pipeline.objects, images, IMAGES) as shard, ShardWriter(IMAGES) as writer:
        for row in shard.rows():
            writer.add(row | {"payload": None})
        generation = pipeline.manifest(shard.header.manifest).generation
        orphaned = writer.store(pipeline.objects, generation, shard.header)
    with pytest.raises(Damaged, match=sha256_hex(png_of(0))):
        pipeline.classify([orphaned])


def test_a_prediction_shards_header_counts_its_rows(pipeline: Pipeline) -> None:
    """Over several row groups: failures with 3 examples, predictions by label, and those to review."""
    for number in range(2_100):
        url = url_of(f"digit-{number % 7}" if number % 3 else f"missing-{number}")
        pipeline.add(number, image_url=url)
    for number in range(7):
        pipeline.images.images[url_of(f"digit-{number}")] = png_of(number)
    (images,) = pipeline.fetch(pipeline.snapshot(records_per_part=3_000))
    (shard_uri,) = pipeline.classify([images], review_below=1.0)
    with open_shard(pipeline.objects, shard_uri, PREDICTIONS) as shard:
        header, rows = shard.header, list(shard.rows())
    predicted = [row for row in rows if row["reason"] is None]
    assert len(predicted) == header.needs_review == 1_400
    assert header.predicted == Counter(DIGITS.name(row["index"]) for row in predicted)
    assert header.failures == {"not_found": 700}
    assert (
        header.examples["not_found"]
        == [
            {key: row[key] for key in ("record_id", "url", "detail")}  # type: ignore[literal-required]
            for row in [row for row in rows if row["reason"] is not None][:3]
        ]
    )


def test_ten_thousand_urls_to_a_thousand_images_are_a_thousand_inferences(pipeline: Pipeline) -> None:
    """The same bytes are stored, decoded and classified once a part, wherever they come from."""
    for number in range(10_000):
        pipeline.add_digit(f"{number:05d}", number % 1_000)
    images = pipeline.fetch(pipeline.snapshot(records_per_part=10_000))
    counting = Counting()
    (shard,) = [
        classify(uri, objects=pipeline.objects, load=lambda _folder, _digest: counting) for uri in images
    ]
    rows = shard_rows(pipeline.objects, PREDICTIONS, shard)
    different = len({png_of(number) for number in range(1_000)})
    assert sum(counting.given) == different == 1_000
    assert sum(row["index"] is not None for row in rows) == 10_000
    stored = [row["payload"] for row in shard_rows(pipeline.objects, IMAGES, images[0])]
    assert len(stored) - stored.count(None) == 1_000


def test_threads_change_nothing_but_the_time(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups that are classified side by side come out in order and as they were."""
    monkeypatch.setattr("mnist_ops.steps.artifacts.shards.ROWS_PER_GROUP", 10)
    for number in range(120):
        pipeline.add_digit(number, number % 90)
    (images,) = pipeline.fetch(pipeline.snapshot())
    of_one, of_many = (
        shard_rows(
            pipeline.objects,
            PREDICTIONS,
            classify(images, objects=pipeline.objects, load=pipeline.load, threads=threads),
        )
        for threads in (1, 6)
    )
    assert [row["url"] for row in of_many] == [url_of(number) for number in range(120)]
    assert of_many == of_one


class Meeting(Counting):
    """A classifier that answers only when two groups are in it."""

    def __init__(self) -> None:
        super().__init__()
        self._two = threading.Barrier(2, timeout=20)

    def predict(self, images: np.ndarray) -> Predictions:
        """Wait for the other one."""
        self._two.wait()
        return super().predict(images)


def test_two_threads_classify_two_groups_at_once(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """And decode one at a time: two would take Python's lock from each other at every image."""
    monkeypatch.setattr("mnist_ops.steps.artifacts.shards.ROWS_PER_GROUP", 10)
    decoding, most = 0, 0

    def decode(*arguments: object) -> object:
        nonlocal decoding, most
        decoding += 1
        most = max(most, decoding)
        time.sleep(0.01)
        decoding -= 1
        return decode_all(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("mnist_ops.steps.classify_pipeline.decode_all", decode)
    for number in range(60):
        pipeline.add_digit(number, number)
    (images,) = pipeline.fetch(pipeline.snapshot())
    classifier = Meeting()
    classify(images, objects=pipeline.objects, load=lambda _folder, _digest: classifier, threads=2)
    assert classifier.given == [10] * 6
    assert most == 1


@pytest.mark.parametrize(("bytes_in_flight", "most"), [(0, 4), (1 << 20, 6)])
def test_few_groups_are_in_flight(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, bytes_in_flight: int, most: int
) -> None:
    """One more than threads, or two where their images are many bytes; beside what was just read."""
    monkeypatch.setattr("mnist_ops.steps.artifacts.shards.ROWS_PER_GROUP", 5)
    monkeypatch.setattr("mnist_ops.steps.classify_pipeline._BYTES_IN_FLIGHT", bytes_in_flight)
    for number in range(100):
        pipeline.add_digit(number, number)
    (images,) = pipeline.fetch(pipeline.snapshot())
    in_flight, peak = 0, 0
    groups, add_group = Shard.groups, ShardWriter.add_group

    def counted(shard: Shard, columns: list[str] | None = None) -> Iterator[pa.Table]:
        nonlocal in_flight, peak
        for group in groups(shard, columns):
            in_flight += 1
            peak = max(peak, in_flight)
            yield group

    def written(shard: ShardWriter, columns: Mapping[str, pa.Array]) -> None:
        nonlocal in_flight
        add_group(shard, columns)
        in_flight -= 1

    monkeypatch.setattr(Shard, "groups", counted)
    monkeypatch.setattr(ShardWriter, "add_group", written)
    classify(images, objects=pipeline.objects, load=pipeline.load, threads=3)
    assert 2 < peak <= most


def test_an_error_of_the_network_ends_the_step(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any thread; nothing is stored."""
    monkeypatch.setattr("mnist_ops.steps.artifacts.shards.ROWS_PER_GROUP", 10)

    class Failing(Counting):
        def predict(self, images: np.ndarray) -> Predictions:
            if self.given:
                raise Permanent("an output of the network is not finite")
            return super().predict(images)

    for number in range(50):
        pipeline.add_digit(number, number)
    with pytest.raises(Permanent, match="not finite"):
        said_by(Failing(), pipeline)
    assert not list(pipeline.objects.keys("predictions/"))
