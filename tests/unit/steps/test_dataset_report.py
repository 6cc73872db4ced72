"""Dataset report: balance, quarantine and likely label errors of a data set."""

import pytest

from mnist_ops.domain.labels import DIGITS
from mnist_ops.steps.artifacts.datasets import read_dataset
from mnist_ops.steps.artifacts.objects import get_json
from mnist_ops.steps.dataset_report import dataset_report
from mnist_ops.vision.training.label_errors import OUT_OF_FOLD_CONFIG
from tests.support.pipeline_in_memory import Loader, Pipeline, label_of, png_of, url_of

RECORDS, FLIPPED = 600, (10, 110, 210, 310, 410, 510)


def id_of(number: int) -> str:
    """A record's id as canonical Extended JSON."""
    return f'"digit-{number}"'


@pytest.fixture(scope="module")
def pipeline(loader: Loader) -> Pipeline:
    """600 labelled digits, six of them with the label of the next digit; one more with an unknown label."""
    pipeline = Pipeline(load=loader)
    for number in range(RECORDS):
        url = url_of(number)
        pipeline.images.images[url] = png_of(number, "train")
        label = label_of(number, "train")
        if number in FLIPPED:
            label = DIGITS.name((DIGITS.names.index(label) + 1) % 10)
        pipeline.add(f"digit-{number}", image_url=url, label=label)
    pipeline.add("odd", image_url=url_of(0), label="eleven")
    return pipeline


@pytest.fixture(scope="module")
def dataset(pipeline: Pipeline) -> str:
    """The data set of these records."""
    return pipeline.dataset()


@pytest.fixture(scope="module")
def report(pipeline: Pipeline, dataset: str) -> dict[str, object]:
    """The report of that data set."""
    uri = dataset_report(dataset, objects=pipeline.objects, config=OUT_OF_FOLD_CONFIG, device="cpu")
    return get_json(pipeline.objects, uri)


def test_the_classes_are_counted_by_fold(pipeline: Pipeline, dataset: str, report: dict[str, object]) -> None:
    """The sums equal those in the data set's manifest."""
    described = read_dataset(pipeline.objects, dataset)
    assert report["dataset"] == dataset
    assert {name: sum(folds.values()) for name, folds in report["classes"].items()} == dict(described.classes)
    for fold, count in described.folds.items():
        assert sum(folds[fold] for folds in report["classes"].values()) == count


def test_quarantined_records_are_counted_by_reason(report: dict[str, object]) -> None:
    """One has a label that is not in the table."""
    assert report["quarantined"] == {"unknown_label": 1}
    assert report["examples"] == RECORDS


def test_planted_label_errors_are_listed_first_with_their_records(report: dict[str, object]) -> None:
    """Most of the six are among the first twelve, and most of them with their true label."""
    top = {error["record_id"]: error for error in report["label_errors"][: 2 * len(FLIPPED)]}
    planted = {number: top[id_of(number)] for number in FLIPPED if id_of(number) in top}
    assert len(planted) >= 5
    assert sum(error["suggested"] == label_of(number, "train") for number, error in planted.items()) >= 4
    assert all(error["url"] == url_of(number) for number, error in planted.items())


def test_an_error_has_both_labels_and_its_fold(report: dict[str, object]) -> None:
    """With the names of the labels, so that a person can check it."""
    first = report["label_errors"][0]
    assert {first["given"], first["suggested"]} <= set(DIGITS.names)
    assert first["given"] != first["suggested"]
    assert first["fold"] in ("train", "validation", "test")
    assert 0 < first["margin"] <= 1


def test_a_repeated_report_is_the_same_object(pipeline: Pipeline, dataset: str) -> None:
    """Its key has its digest."""
    config = OUT_OF_FOLD_CONFIG.model_copy(update={"epochs": 1})
    once, twice = (
        dataset_report(dataset, objects=pipeline.objects, config=config, device="cpu") for _ in range(2)
    )
    assert once == twice
