"""The cost of a run, by a price list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.prices import GIBIBYTE, Prices
from mnist_ops.domain.stages import StageReport

DEAR = Prices("EUR", s3_writes=5.0, s3_reads=1.0, s3_sent=2.0, s3_received=4.0, cpu_hour=36.0, gpu_hour=360.0)
KINDS = ["PutObject", "UploadPart", "ListObjectsV2", "GetObject", "HeadObject", "DeleteObjects"]


def test_every_kind_of_work_has_its_price() -> None:
    """Requests by the thousand, bytes by the GiB, times by the hour."""
    work = StageReport(
        "run",
        s3_requests={"PutObject": 100, "CompleteMultipartUpload": 100, "GetObject": 300, "HeadObject": 200},
        s3_sent=GIBIBYTE // 2,
        s3_received=GIBIBYTE,
        cpu_s=50.0,
        gpu_s=10.0,
    )
    cost = DEAR.cost(work, 2_000)
    assert dict(cost.by) == pytest.approx(
        {"s3_writes": 1.0, "s3_reads": 0.5, "s3_sent": 1.0, "s3_received": 4.0, "cpu": 0.5, "gpu": 1.0}
    )
    assert cost.document() == {
        "currency": "EUR",
        "total": pytest.approx(8.0),
        "per_1000_records": pytest.approx(4.0),
        "by": dict(cost.by),
    }


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("PutObject", "s3_writes"),
        ("CopyObject", "s3_writes"),
        ("CreateMultipartUpload", "s3_writes"),
        ("UploadPart", "s3_writes"),
        ("CompleteMultipartUpload", "s3_writes"),
        ("ListObjectsV2", "s3_writes"),
        ("ListMultipartUploads", "s3_writes"),
        ("GetObject", "s3_reads"),
        ("HeadObject", "s3_reads"),
        ("HeadBucket", "s3_reads"),
        ("DeleteObjects", None),
        ("AbortMultipartUpload", None),
    ],
)
def test_a_request_costs_what_its_kind_does(kind: str, name: str | None) -> None:
    """As in S3's price list; deleting and aborting are free."""
    by = DEAR.cost(StageReport("run", s3_requests={kind: 1_000}), 1).by
    assert [paid for paid, amount in by.items() if amount] == ([name] if name else [])


def test_no_records_have_no_price_each() -> None:
    """An empty run has a cost too."""
    cost = DEAR.cost(StageReport("run", s3_requests={"GetObject": 1}), 0)
    assert cost.total > 0
    assert cost.per_1000_records is None


@given(st.lists(st.dictionaries(st.sampled_from(KINDS), st.integers(0, 10**6)), max_size=5))
def test_costs_of_parts_add_up(parts: list[dict[str, int]]) -> None:
    """The whole run costs what its steps cost together."""
    reports = [StageReport("run", s3_requests=requests) for requests in parts]
    whole = DEAR.cost(sum(reports, StageReport("run")), 1).total
    assert whole == pytest.approx(sum(DEAR.cost(report, 1).total for report in reports))
