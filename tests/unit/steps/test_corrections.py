"""What reviewers correct enters the next data set, and no run takes it back."""

from mnist_ops.domain.keys import Generation
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.selection import Reclassify
from mnist_ops.serving.queries import review
from mnist_ops.serving.queries.review_items import items_of_records
from mnist_ops.steps.artifacts.datasets import open_rows, read_dataset
from tests.support.reviewed_runs import ReviewedRuns, number_id

LABELS = {number_id(0): "three", number_id(1): "four", number_id(2): "nine"}


def corrected() -> ReviewedRuns:
    """Eight predicted records, three of them corrected by a reviewer."""
    reviewed = ReviewedRuns()
    reviewed.run(range(8))
    for item in items_of_records(reviewed.steps, review.next_records(reviewed.steps, "ada", 3)):
        said = review.answer(reviewed.steps, "ada", item.record, item.seen, LABELS[item.record])
        assert said is review.Said.SAVED
    return reviewed


def test_three_corrected_records_are_in_the_next_data_set() -> None:
    """With the labels that the reviewer chose, and no other record."""
    reviewed = corrected()
    dataset = read_dataset(reviewed.runs.objects, reviewed.runs.dataset(Generation("train_lenet/next")))
    with open_rows(reviewed.runs.objects, dataset) as file:
        rows = file.read(["record_id", "label", "reason"]).to_pylist()
    assert {row["record_id"]: DIGITS.name(row["label"]) for row in rows} == LABELS
    assert {row["reason"] for row in rows} == {None}


def test_a_corrected_record_is_not_predicted_again() -> None:
    """Not even by a run that takes every predicted record."""
    reviewed = corrected()
    before = [reviewed.runs.records.document(number) for number in range(3)]
    reviewed.run((), Generation("classify_records/again"), reclassify=Reclassify.ALL)
    assert [reviewed.runs.records.document(number) for number in range(3)] == before
    assert reviewed.runs.records.document(3)["prediction"]["run"] == "classify_records/again"
