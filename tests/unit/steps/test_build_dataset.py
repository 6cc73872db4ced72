"""Build dataset: human-labelled records and their images become examples in folds."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.keys import Generation, sha256_hex, shard_key
from mnist_ops.domain.labels import DIGITS
from mnist_ops.local import sample_digits
from mnist_ops.steps.artifacts.datasets import Dataset, DatasetRow, load_fold, open_rows, read_dataset
from mnist_ops.vision.data.folds import Fold, fold_of
from tests.support.pipeline_in_memory import (
    CREATED,
    Pipeline,
    Trained,
    build_small_dataset,
    label_of,
    png_of,
    url_of,
)


def label(pipeline: Pipeline, record_id: object, number: int, *, as_label: object = None) -> None:
    """Add a labelled record of a sample digit."""
    pipeline.add_digit(record_id, number, label=label_of(number) if as_label is None else as_label)


def rows(pipeline: Pipeline, uri: str) -> list[DatasetRow]:
    """Return all rows of a data set."""
    with open_rows(pipeline.objects, read_dataset(pipeline.objects, uri)) as file:
        return file.read().to_pylist()


def built(pipeline: Pipeline, run: str = "train/1", **selection: object) -> tuple[Dataset, list[DatasetRow]]:
    """Return a data set with its rows."""
    uri = pipeline.dataset(run, **selection)
    return read_dataset(pipeline.objects, uri), rows(pipeline, uri)


def test_every_labelled_record_has_a_row_with_label_fold_and_pixels(pipeline: Pipeline) -> None:
    """In the order of the parts."""
    for number in range(6):
        label(pipeline, number, number)
    _, examples = built(pipeline, records_per_part=4)
    images, labels = sample_digits.load("test")
    assert [row["label"] for row in examples] == labels[:6].tolist()
    assert [row["pixels"] for row in examples] == [image.tobytes() for image in images[:6]]
    assert [row["sha256"] for row in examples] == [sha256_hex(png_of(number)) for number in range(6)]
    assert [row["fold"] for row in examples] == [str(fold_of(str(row["sha256"]))) for row in examples]


def test_the_manifest_counts_folds_and_classes(trained: Trained) -> None:
    """About 80, 10 and 10 of a hundred."""
    dataset = read_dataset(trained.pipeline.objects, trained.dataset)
    total = sum(dataset.folds.values())
    assert total == sum(dataset.classes.values()) == 800
    assert 0.75 < dataset.folds["train"] / total < 0.85
    assert min(dataset.folds["validation"], dataset.folds["test"]) > 0.06 * total
    assert set(dataset.classes) == set(DIGITS.names)


def test_old_records_never_move_to_another_fold_when_others_arrive(pipeline: Pipeline) -> None:
    """A test example is never trained on later."""
    for number in range(40):
        label(pipeline, number, number)
    _, before = built(pipeline, "train/1")
    for number in range(40, 80):
        label(pipeline, f"newer-{number}", number)
    _, after = built(pipeline, "train/2")
    folds = {row["record_id"]: row["fold"] for row in after}
    assert {row["record_id"]: folds[row["record_id"]] for row in before} == {
        row["record_id"]: row["fold"] for row in before
    }


def test_duplicates_never_cross_folds(pipeline: Pipeline) -> None:
    """Equal bytes behind different URLs are in the same fold, also in different parts."""
    for number in range(20):
        for copy in range(3):
            label(pipeline, f"{copy}-{number}", number)
    _, examples = built(pipeline, records_per_part=7)
    folds: dict[object, set[object]] = {}
    for row in examples:
        folds.setdefault(row["sha256"], set()).add(row["fold"])
    assert len(folds) == 20
    assert all(len(fold) == 1 for fold in folds.values())


def test_an_image_that_people_labelled_differently_is_quarantined_everywhere(
    pipeline: Pipeline,
) -> None:
    """Nobody knows which label is right; also across parts."""
    label(pipeline, 1, 0)
    label(pipeline, 2, 1)
    label(pipeline, 3, 0, as_label="eight")
    label(pipeline, 4, 0)
    dataset, examples = built(pipeline, records_per_part=1)
    assert [row["reason"] for row in examples] == ["label_conflict", None, "label_conflict", "label_conflict"]
    assert dataset.quarantined == {"label_conflict": 3}


def test_labels_that_mean_the_same_do_not_conflict(pipeline: Pipeline) -> None:
    """A name, its index, and another spelling of it."""
    name = label_of(0)
    for record_id, spelling in enumerate((name, name.upper(), DIGITS.index(name))):
        label(pipeline, record_id, 0, as_label=spelling)
    dataset, _ = built(pipeline)
    assert (dataset.quarantined, sum(dataset.classes.values())) == ({}, 3)


@pytest.mark.parametrize("unknown", ["ten", 10, -1, True, 7.5, ["seven"], {"$gt": ""}])
def test_an_unknown_label_is_quarantined_with_the_records_id(pipeline: Pipeline, unknown: object) -> None:
    """And with what was found."""
    label(pipeline, 1, 0)
    label(pipeline, 2, 1, as_label=unknown)
    dataset, examples = built(pipeline)
    bad = examples[1]
    assert (bad["record_id"], bad["reason"]) == ('{"$numberInt": "2"}', "unknown_label")
    assert "none of zero" in str(bad["detail"])
    assert (bad["label"], bad["fold"], bad["pixels"]) == (None, None, None)
    assert dataset.quarantined == {"unknown_label": 1}


def test_a_long_label_does_not_fill_the_detail(pipeline: Pipeline) -> None:
    """A label may be any text."""
    label(pipeline, 1, 0)
    label(pipeline, 2, 1, as_label="x" * 100_000)
    _, examples = built(pipeline)
    assert len(str(examples[1]["detail"])) < 300


def test_an_unknown_label_does_not_conflict_with_a_known_one(pipeline: Pipeline) -> None:
    """An unknown label is no statement about the image."""
    label(pipeline, 1, 0)
    label(pipeline, 2, 0, as_label="?")
    _, examples = built(pipeline)
    assert [row["reason"] for row in examples] == [None, "unknown_label"]


def test_an_image_that_cannot_be_fetched_or_decoded_is_quarantined(pipeline: Pipeline) -> None:
    """With the reason that a waiting record would get."""
    label(pipeline, 1, 0)
    pipeline.add(2, label="seven")
    label(pipeline, 3, 1)
    pipeline.images.images[url_of(3)] = b"text"
    pipeline.add(4, label="seven", image_url=None)
    dataset, examples = built(pipeline)
    assert [row["reason"] for row in examples] == [None, "not_found", "not_an_image", "invalid_url"]
    assert sum(dataset.folds.values()) == 1


def test_a_predicted_label_is_never_taken_for_a_human_one(pipeline: Pipeline) -> None:
    """Models are not trained on predictions."""
    pipeline.add_digit(1, 0)
    pipeline.run()
    assert "prediction" in pipeline.records.document(1)
    assert pipeline.manifest(pipeline.snapshot("train/1", labelled=True)).records == 0


def test_swapped_image_bytes_are_damage_that_names_the_record(pipeline: Pipeline) -> None:
    """Every row's sha256 is checked, whatever the shard's own digest says."""
    label(pipeline, 1, 0)
    label(pipeline, 2, 1)
    manifest = pipeline.snapshot("train/1", labelled=True)
    (shard,) = pipeline.fetch(manifest)
    swapped = rewritten(pipeline, shard, swap_payloads)
    with pytest.raises(Damaged, match=r'record \{"\$numberInt": "1"\}'):
        build(pipeline, manifest, swapped)


def swap_payloads(table: pa.Table) -> pa.Table:
    """Give every row the payload of the next."""
    payloads = table["payload"].to_pylist()
    column = pa.array([*payloads[1:], payloads[0]], pa.binary())
    return table.set_column(table.schema.get_field_index("payload"), "payload", column)


def drop_last(table: pa.Table) -> pa.Table:
    """Leave the last row out."""
    return table.slice(0, table.num_rows - 1)


def reverse(table: pa.Table) -> pa.Table:
    """Reverse the order."""
    return table.take(list(range(table.num_rows))[::-1])


def rewritten(pipeline: Pipeline, uri: str, change: object) -> str:
    """Return a forged image shard with a matching digest, as somebody with write access could make it."""
    with pq.ParquetFile(io.BytesIO(pipeline.objects.get_bytes(uri))) as file:
        header = {b"mnist_ops": file.metadata.metadata[b"mnist_ops"]}
        forged = change(file.read()).replace_schema_metadata(header)  # type: ignore[operator]
    buffer = io.BytesIO()
    pq.write_table(forged, buffer)
    data = buffer.getvalue()
    return pipeline.objects.put_bytes(shard_key("images", Generation("train/1"), 0, sha256_hex(data)), data)


def build(pipeline: Pipeline, manifest: str, *shards: str) -> str:
    """Build a data set of given shards."""
    return build_small_dataset(pipeline.steps(), manifest, shards)


@pytest.mark.parametrize("change", [drop_last, reverse])
def test_a_shard_that_does_not_fit_its_part_is_damaged(pipeline: Pipeline, change: object) -> None:
    """A label is never paired with another record's image."""
    label(pipeline, 1, 0)
    label(pipeline, 2, 1)
    manifest = pipeline.snapshot("train/1", labelled=True)
    (shard,) = pipeline.fetch(manifest)
    forged = rewritten(pipeline, shard, change)
    with pytest.raises(Damaged):
        build(pipeline, manifest, forged)


def test_a_missing_part_is_refused(pipeline: Pipeline) -> None:
    """A data set is of the whole snapshot."""
    label(pipeline, 1, 0)
    label(pipeline, 2, 1)
    manifest = pipeline.snapshot("train/1", labelled=True, records_per_part=1)
    shards = pipeline.fetch(manifest)
    with pytest.raises(Permanent, match="parts"):
        build(pipeline, manifest, shards[0])


def test_a_snapshot_without_a_usable_record_is_refused_with_the_reasons(pipeline: Pipeline) -> None:
    """An empty data set is of no use."""
    label(pipeline, 1, 0, as_label="ten")
    with pytest.raises(Permanent, match="unknown_label"):
        pipeline.dataset("train/1")
    assert pipeline.datasets.newest_dataset() is None


def test_too_few_labels_are_refused_before_any_training_with_the_numbers(pipeline: Pipeline) -> None:
    """150 labelled records: a bundle could not be made of them; nothing is stored."""
    for number in range(150):
        label(pipeline, number, number)
    label(pipeline, "odd", 0, as_label="ten")
    manifest = pipeline.snapshot("train/1", labelled=True)
    with pytest.raises(Permanent) as raised:
        pipeline.steps().build_dataset(manifest, pipeline.fetch(manifest))
    assert str(raised.value).splitlines() == [
        "150 usable labels are too few to train and release a model:",
        "validation fold: 11, a bundle's golden samples need at least 20",
        "Label about 90 more records.",
        "1 labelled records are not usable: 1 unknown_label",
    ]
    assert pipeline.datasets.newest_dataset() is None


def test_a_training_whose_images_fail_over_the_budget_is_refused_with_examples(pipeline: Pipeline) -> None:
    """It would train on what is left, and perhaps release it; nothing is stored."""
    for number in range(300):
        label(pipeline, number, number)
    for number in range(300, 400):
        pipeline.add(number, label="seven")
    manifest = pipeline.snapshot("train/1", labelled=True)
    shards = pipeline.fetch(manifest)
    with pytest.raises(Permanent) as raised:
        pipeline.steps().build_dataset(manifest, shards)
    lines = str(raised.value).splitlines()
    assert lines[:3] == [
        "nothing is trained: 100 of 400 records failed (100 not_found), more than the budget of 20%",
        "100 failed: 100 not_found",
        "not_found:",
    ]
    assert len([line for line in lines if url_of("3")[:-5] in line]) == 3
    assert lines[-1] == "raise MNIST_OPS_FAILURE_BUDGET."
    assert pipeline.datasets.newest_dataset() is None
    assert pipeline.steps(failure_budget=0.3).build_dataset(manifest, shards)


def test_faults_of_labels_do_not_count_for_the_budget_of_a_training(pipeline: Pipeline) -> None:
    """They are quarantined one by one, and reported."""
    for number in range(300):
        label(pipeline, number, number)
    for number in range(300, 400):
        label(pipeline, number, number, as_label="ten")
    manifest = pipeline.snapshot("train/1", labelled=True)
    assert pipeline.steps().build_dataset(manifest, pipeline.fetch(manifest))


def test_the_gates_significance_decides_how_large_the_test_fold_must_be(pipeline: Pipeline) -> None:
    """With p under 0.000001, 21 digits that the challenger alone gets right are needed."""
    for number in range(250):
        label(pipeline, number, number)
    manifest = pipeline.snapshot("train/1", labelled=True)
    shards = pipeline.fetch(manifest)
    dataset = pipeline.steps().build_dataset(manifest, shards)
    assert read_dataset(pipeline.objects, dataset).folds["test"] == 20
    with pytest.raises(Permanent, match="test fold: 20, the gate needs at least 21"):
        pipeline.steps(gate_significance=1e-6).build_dataset(manifest, shards)


def test_a_label_without_a_digit_to_train_on_is_named(pipeline: Pipeline) -> None:
    """The network would never predict it."""
    for number in range(300):
        if label_of(number) not in ("three", "nine"):
            label(pipeline, number, number)
    manifest = pipeline.snapshot("train/1", labelled=True)
    with pytest.raises(
        Permanent, match="train fold: fewer than 1 of three, nine\nLabel more records of three"
    ):
        pipeline.steps().build_dataset(manifest, pipeline.fetch(manifest))


def test_a_data_set_is_registered_for_the_next_one(pipeline: Pipeline) -> None:
    """By its manifest."""
    label(pipeline, 1, 0)
    uri = pipeline.dataset("train/1")
    assert pipeline.datasets.newest_dataset() == uri


def test_building_again_gives_the_same_data_set(pipeline: Pipeline) -> None:
    """Same rows, same digest, same URI."""
    for number in range(5):
        label(pipeline, number, number)
    manifest = pipeline.snapshot("train/1", labelled=True)
    shards = pipeline.fetch(manifest)
    assert build(pipeline, manifest, *shards) == build(pipeline, manifest, *shards)


def test_a_fold_is_loaded_as_arrays(trained: Trained) -> None:
    """Images and labels belong together, and quarantined rows are left out."""
    pipeline = trained.pipeline
    dataset = read_dataset(pipeline.objects, trained.dataset)
    examples = load_fold(pipeline.objects, dataset, Fold.TEST)
    in_test = [n for n in range(800) if fold_of(sha256_hex(png_of(n, "train"))) is Fold.TEST]
    images, labels = sample_digits.load("train")
    assert np.array_equal(examples.images, images[in_test])
    assert np.array_equal(examples.labels, labels[in_test])


def test_an_empty_fold_is_refused_by_name(pipeline: Pipeline) -> None:
    """The message says what to do."""
    label(pipeline, 1, 0)
    dataset, examples = built(pipeline)
    other = next(fold for fold in Fold if fold != examples[0]["fold"])
    with pytest.raises(Permanent, match=f"{other} fold is empty; label more"):
        load_fold(pipeline.objects, dataset, other)


def test_a_labelled_record_that_was_created_in_the_future_is_taken(pipeline: Pipeline) -> None:
    """A training takes all human-labelled records, whatever their times."""
    pipeline.add_digit(1, 0, label="seven", created_at=CREATED.replace(year=2100))
    dataset, _ = built(pipeline)
    assert sum(dataset.folds.values()) == 1
