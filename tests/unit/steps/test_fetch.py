"""Fetch: one row a record, in the part's order, with an image or with a reason."""

from dataclasses import replace

import pytest

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.images import FetchFailure, Validators
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.reasons import Reason
from mnist_ops.steps.artifacts.datasets import open_rows, read_dataset
from mnist_ops.steps.artifacts.shard_kinds import IMAGES, ImageRow
from mnist_ops.steps.artifacts.shards import open_shard
from mnist_ops.steps.fetch import fetch
from tests.support.pipeline_in_memory import AT, Pipeline, Trained, png_of, shard_rows, url_of


def rows_of(pipeline: Pipeline, **selection: object) -> list[ImageRow]:
    """Return the image rows of a snapshot of one part."""
    (shard,) = pipeline.fetch(pipeline.snapshot(**selection))
    return shard_rows(pipeline.objects, IMAGES, shard)


def named(record_id: int) -> str:
    """Return how a shard names a record."""
    return f'{{"$numberInt": "{record_id}"}}'


def test_there_is_a_row_for_every_record_in_the_parts_order(pipeline: Pipeline) -> None:
    """Whether it has an image, a failure, or was not requested."""
    pipeline.add(1)
    pipeline.add_digit(2, 0)
    pipeline.add(3, image_url=None)
    pipeline.add(4, created_at=None)
    pipeline.add_digit(5, 1)
    pipeline.add(6)
    assert [row["record_id"] for row in rows_of(pipeline)] == [named(number) for number in range(1, 7)]


def test_an_image_comes_with_its_digest_size_status_and_time(pipeline: Pipeline) -> None:
    """Enough to look a case up."""
    pipeline.add_digit(1, 0)
    (row,) = rows_of(pipeline)
    payload = png_of(0)
    assert row["payload"] == payload
    assert row["sha256"] == sha256_hex(payload)
    assert (row["bytes"], row["http_status"], row["fetched_at"]) == (len(payload), 200, AT)
    assert (row["url"], row["reason"]) == (url_of(1), None)


def test_only_the_first_row_of_a_digest_has_the_payload(pipeline: Pipeline) -> None:
    """Equal bytes behind different URLs are kept once."""
    for record_id, number in ((1, 0), (2, 1), (3, 0), (4, 0)):
        pipeline.add_digit(record_id, number)
    rows = rows_of(pipeline)
    assert [row["payload"] is not None for row in rows] == [True, True, False, False]
    assert rows[0]["sha256"] == rows[2]["sha256"] == rows[3]["sha256"]


@pytest.mark.parametrize("created_at", [None, "2026-01-30", 1_769_774_400, {"$date": 1}])
def test_a_record_without_a_creation_date_is_rejected_without_asking_for_its_image(
    pipeline: Pipeline, created_at: object
) -> None:
    """The reason names what to correct."""
    pipeline.add_digit(1, 0, created_at=created_at)
    (row,) = rows_of(pipeline)
    assert row["reason"] == "bad_created_at"
    assert "creation time" in str(row["detail"])
    assert pipeline.images.fetched == []


@pytest.mark.parametrize("image_url", [None, 7, ["https://images.example/1.png"], {"$gt": ""}])
def test_a_record_whose_url_is_no_string_is_rejected_without_asking(
    pipeline: Pipeline, image_url: object
) -> None:
    """The pipeline does not guess a URL."""
    pipeline.records.insert({"_id": 1, "image_url": image_url, "created_at": AT})
    (row,) = rows_of(pipeline)
    assert (row["reason"], row["url"]) == ("invalid_url", None)
    assert pipeline.images.fetched == []


def test_a_labelled_record_needs_no_creation_time(pipeline: Pipeline) -> None:
    """It is selected for its label, whatever its time."""
    pipeline.add_digit(1, 0, created_at=None, label="seven")
    (row,) = rows_of(pipeline, labelled=True)
    assert (row["reason"], row["payload"]) == (None, png_of(0))


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.BLOCKED_ADDRESS, Reason.RATE_LIMITED])
def test_a_failure_is_a_row(pipeline: Pipeline, reason: Reason) -> None:
    """It has the status of the response, and the other records are not affected."""
    pipeline.add_digit(1, 0)
    pipeline.add(2)
    pipeline.add_digit(3, 1)
    url = url_of(2)
    pipeline.images.images[url] = FetchFailure(url, reason, "what happened", 429, retry_after_s=2.5)
    rows = rows_of(pipeline)
    assert [row["reason"] for row in rows] == [None, str(reason), None]
    assert (rows[1]["detail"], rows[1]["http_status"], rows[1]["retry_after_s"]) == (
        "what happened",
        429,
        2.5,
    )
    assert (rows[1]["sha256"], rows[1]["payload"]) == (None, None)


def test_a_shard_counts_its_failures_by_reason(pipeline: Pipeline) -> None:
    """Assessing a run reads no rows."""
    pipeline.add_digit(1, 0)
    pipeline.add(2)
    pipeline.add(3)
    pipeline.add(4, image_url=None)
    (uri,) = pipeline.fetch(pipeline.snapshot())
    with open_shard(pipeline.objects, uri, IMAGES) as shard:
        assert shard.header.failures == {"not_found": 2, "invalid_url": 1}
        assert shard.header.records == 4


def test_every_part_has_its_own_shard(pipeline: Pipeline) -> None:
    """The parts of a snapshot are fetched in parallel."""
    for number in range(5):
        pipeline.add_digit(number, number)
    shards = pipeline.fetch(pipeline.snapshot(records_per_part=2))
    ids = [[row["record_id"] for row in shard_rows(pipeline.objects, IMAGES, uri)] for uri in shards]
    assert ids == [[named(0), named(1)], [named(2), named(3)], [named(4)]]


def test_fetching_again_leaves_the_first_shard_as_it_is(pipeline: Pipeline) -> None:
    """A retry after the images changed makes another object."""
    pipeline.add_digit(1, 0)
    manifest = pipeline.snapshot()
    first = pipeline.fetch(manifest)
    before = dict(pipeline.objects.objects)
    pipeline.images.images[url_of(1)] = png_of(1)
    assert pipeline.fetch(manifest) != first
    assert before.items() <= pipeline.objects.objects.items()


@pytest.mark.parametrize("number", [1, 7, 99_999])
def test_a_part_that_the_manifest_does_not_have_is_refused(pipeline: Pipeline, number: int) -> None:
    """A mistyped number on the command line is a clear error."""
    pipeline.add_digit(1, 0)
    with pytest.raises(Permanent, match=str(number)):
        fetch(
            f"{pipeline.snapshot()}#{number}",
            records=pipeline.records,
            objects=pipeline.objects,
            images=pipeline.images,
            now=lambda: AT,
        )


# --- reuse of a data set's images


def labelled_twice(trained: Trained) -> Pipeline:
    """Return a pipeline with a data set, which has requested no image since."""
    pipeline = trained.pipeline.copy()
    pipeline.images.fetched.clear()
    return pipeline


def test_images_that_a_data_set_holds_are_not_asked_for_again(trained: Trained) -> None:
    """A new label is no reason to fetch the images again."""
    pipeline = labelled_twice(trained)
    pipeline.add_digit("new", 5, label="nine")
    pipeline.fetch(pipeline.snapshot("train/2", labelled=True), trained.dataset)
    assert pipeline.images.fetched == [url_of("new")]


def test_a_reused_image_is_a_reference_to_the_shard_that_holds_it(trained: Trained) -> None:
    """It is not stored a second time."""
    pipeline = labelled_twice(trained)
    (shard,) = pipeline.fetch(pipeline.snapshot("train/2", labelled=True), trained.dataset)
    row = shard_rows(pipeline.objects, IMAGES, shard)[0]
    assert (row["payload"], row["reason"]) == (None, None)
    assert row["sha256"] == sha256_hex(png_of(0, "train"))
    held = shard_rows(pipeline.objects, IMAGES, str(row["image_uri"]))
    assert png_of(0, "train") in [other["payload"] for other in held]


def test_a_reused_image_gives_the_same_example(trained: Trained) -> None:
    """Pixels, label and fold of the second data set are those of the first."""
    pipeline = labelled_twice(trained)
    second = pipeline.dataset("train/2", reuse=trained.dataset)

    def examples(uri: str) -> list[object]:
        with open_rows(pipeline.objects, read_dataset(pipeline.objects, uri)) as file:
            return file.read(["record_id", "sha256", "label", "fold", "pixels"]).to_pylist()

    assert examples(second) == examples(trained.dataset)
    assert pipeline.images.fetched == []


def test_a_third_data_set_reuses_images_through_the_second(trained: Trained) -> None:
    """A reference always leads to the shard that holds the bytes, however often it was passed on."""
    pipeline = labelled_twice(trained)
    second = pipeline.dataset("train/2", reuse=trained.dataset)
    third = pipeline.dataset("train/3", reuse=second)
    assert read_dataset(pipeline.objects, third).folds == read_dataset(pipeline.objects, second).folds


def test_an_edited_url_is_fetched(trained: Trained) -> None:
    """Images are reused for the same URL, not for the same record."""
    pipeline = labelled_twice(trained)
    document = pipeline.records.document("labelled-0")
    pipeline.records.insert(document | {"image_url": url_of("elsewhere")})
    pipeline.fetch(pipeline.snapshot("train/2", labelled=True), trained.dataset)
    assert pipeline.images.fetched == [url_of("elsewhere")]


def test_an_image_that_could_not_be_fetched_is_tried_again_by_the_next_data_set(
    pipeline: Pipeline,
) -> None:
    """One outage of a server does not exclude the images of its URLs for ever."""
    for number in range(3):
        pipeline.add_digit(number, number, label="seven")
    url = url_of(2)
    good = pipeline.images.images[url]
    pipeline.images.images[url] = FetchFailure(url, Reason.TIMEOUT, "no answer")
    first = pipeline.dataset("train/1")
    assert read_dataset(pipeline.objects, first).quarantined == {"timeout": 1}
    pipeline.images.images[url] = good
    second = read_dataset(pipeline.objects, pipeline.dataset("train/2", reuse=first))
    assert sum(second.folds.values()) == 3
    assert second.quarantined == {}


def test_an_image_without_a_usable_label_is_reused_once_it_has_one(pipeline: Pipeline) -> None:
    """Its bytes were usable; the label has been corrected."""
    for number in range(2):
        pipeline.add_digit(number, number, label="seven")
    pipeline.add_digit(2, 2, label="ten")
    first = pipeline.dataset("train/1")
    pipeline.records.insert(pipeline.records.document(2) | {"label": "one"})
    pipeline.images.fetched.clear()
    second = read_dataset(pipeline.objects, pipeline.dataset("train/2", reuse=first))
    assert (sum(second.folds.values()), second.quarantined) == (3, {})
    assert pipeline.images.fetched == []


def test_a_fetcher_that_gives_too_few_answers_is_noticed(pipeline: Pipeline) -> None:
    """No record gets another's image, and none is lost."""

    class Forgetful:
        def fetch(self, urls: object, known: object) -> object:
            return iter(list(type(pipeline.images).fetch(pipeline.images, urls, known))[:-1])  # type: ignore[arg-type]

    pipeline.add_digit(1, 0)
    pipeline.add_digit(2, 1)
    broken = replace(pipeline, images=Forgetful())  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=url_of(2)):
        broken.fetch(pipeline.snapshot())


# --- images that earlier runs stored


def predicted_once(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline with three predictions, whose server sent validators for two of the images."""
    for number in range(3):
        pipeline.add_digit(number, number)
    pipeline.images.validators = {
        url_of(0): Validators('"zero"', None),
        url_of(1): Validators(None, "Sat, 21 Nov 2026 10:00:00 GMT"),
    }
    pipeline.run("dag/first")
    return pipeline


def images_again(pipeline: Pipeline, run: str = "dag/second") -> list[ImageRow]:
    """Return the image rows of a run that takes all records again."""
    (shard,) = pipeline.fetch(pipeline.snapshot(run, reclassify="all"))
    return shard_rows(pipeline.objects, IMAGES, shard)


def test_the_validators_of_images_are_stored(pipeline: Pipeline) -> None:
    """As the server sent them."""
    rows = images_again(predicted_once(pipeline))
    assert [(row["etag"], row["last_modified"]) for row in rows][2] == (None, None)
    (first, *_) = pipeline.fetch(pipeline.snapshot("dag/first"))
    kept = [(row["etag"], row["last_modified"]) for row in shard_rows(pipeline.objects, IMAGES, first)]
    assert kept == [('"zero"', None), (None, "Sat, 21 Nov 2026 10:00:00 GMT"), (None, None)]


def test_an_unchanged_image_is_a_reference_to_what_the_earlier_run_stored(pipeline: Pipeline) -> None:
    """If the server says that it has not changed; an image without validators is fetched."""
    rows = images_again(predicted_once(pipeline))
    assert [row["payload"] is None for row in rows] == [True, True, False]
    for number, row in enumerate(rows[:2]):
        assert row["sha256"] == sha256_hex(png_of(number))
        held = shard_rows(pipeline.objects, IMAGES, str(row["image_uri"]))
        assert png_of(number) in [other["payload"] for other in held]


def test_a_changed_image_is_fetched_and_classified_again(pipeline: Pipeline) -> None:
    """Other bytes behind the same URL: a new prediction, and the old one in the history."""
    predicted_once(pipeline)
    before = pipeline.records.document(0)["prediction"]
    pipeline.images.images[url_of(0)] = png_of(7)
    pipeline.images.validators[url_of(0)] = Validators('"another"', None)
    ledger = pipeline.run("dag/second", reclassify="all")
    assert ledger.outcomes["predicted"] == 3
    document = pipeline.records.document(0)
    assert document["prediction"]["image"]["sha256"] == sha256_hex(png_of(7))
    assert document["prediction_history"] == [before]


def test_a_third_run_goes_back_to_the_shard_that_holds_the_bytes(pipeline: Pipeline) -> None:
    """A reference is passed on with its validators."""
    predicted_once(pipeline)
    pipeline.run("dag/second", reclassify="all")
    second, third = images_again(pipeline, "dag/second/again"), images_again(pipeline, "dag/third")
    assert [row["image_uri"] for row in third][:2] == [row["image_uri"] for row in second][:2]


def test_an_image_whose_shard_was_deleted_is_fetched(pipeline: Pipeline) -> None:
    """A missing shard costs a request, not a record."""
    predicted_once(pipeline)
    for key in [key for key in pipeline.objects.objects if key.startswith("images/")]:
        del pipeline.objects.objects[key]
    assert all(row["payload"] is not None for row in images_again(pipeline))


@pytest.mark.parametrize(
    "prediction",
    [
        {"run": "x" * 10_000, "generation": 0},
        {"run": "../\n", "generation": 0},
        {"run": 3, "generation": 0},
        {"run": "dag/first", "generation": "0"},
        {"run": "dag/never", "generation": 0},
    ],
)
def test_an_image_is_fetched_whatever_the_records_prediction_contains(
    pipeline: Pipeline, prediction: dict[str, object]
) -> None:
    """Other programs may have written it."""
    pipeline.add_digit(1, 1, prediction=prediction | {"image": {"url": url_of(1)}})
    (row,) = images_again(pipeline)
    assert row["payload"] == png_of(1)
