"""A run's ledger has the requests and bytes that an independent observer counted."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.adapters.s3.objects import S3Objects
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.prices import GIBIBYTE
from tests.support.small_runs import EVERYTHING_AGAIN, SmallRuns

MEBIBYTE = 1 << 20
SERVERS = ["seaweedfs", "moto"]


class Observer:
    """Counts, at the client's last hook before the wire, without the store's own counters."""

    def __init__(self, client) -> None:
        self.requests: Counter[str] = Counter()
        self.sent = 0
        client.meta.events.register_last("before-send.s3", self._see)

    def _see(self, event_name: str, request, **_: object) -> None:
        operation = event_name.rpartition(".")[2]
        self.requests[operation] += 1
        if request.method == "PUT":
            body = request.body
            self.sent += len(body) if isinstance(body, bytes | bytearray) else len(body.read())
            if hasattr(body, "seek"):
                body.seek(0)


def small_runs(client, other_client, prefix: str) -> SmallRuns:
    """A deployment whose steps use one client, and its test another."""
    store = S3Objects(client, "mnist-ops", prefix)
    store.ensure_bucket()
    return SmallRuns(store, InMemoryRecords(), aside=S3Objects(other_client, "mnist-ops", prefix))


def made(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """The increase of a count."""
    return dict(Counter(after) - Counter(before))


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("selection", [{}, EVERYTHING_AGAIN], ids=["waiting", "all again"])
def test_the_ledger_counts_every_request_that_was_sent(s3_clients, server, selection) -> None:
    """Kind by kind, over every step, the uploads of manifest, shards and assessment included."""
    client = s3_clients(server)
    runs = small_runs(client, s3_clients(server), f"accounts/{server}-{len(selection)}")
    runs.records.insert(*(runs.document(number) for number in range(10)))
    if selection:
        runs.run(Generation("dag/before"))
    observer = Observer(client)
    ledger = runs.run(Generation("dag/run"), **selection)
    assert ledger.outcomes["predicted"] == 10
    assert dict(ledger.work.s3_requests) == dict(observer.requests)
    assert ledger.work.s3_sent == observer.sent
    assert set(ledger.stages) == {"snapshot", "fetch", "classify", "assess", "publish", "reconcile"}
    assert all(report.s3_requests for report in ledger.stages.values())


def test_the_times_of_every_step_add_up_to_its_wall_time(objects) -> None:
    """Up to rounding: each of four figures is rounded to the millisecond, and so is their sum."""
    runs = SmallRuns(objects, InMemoryRecords())
    runs.records.insert(*(runs.document(number) for number in range(10)))
    document = runs.run(Generation("dag/run")).document()
    for stage in document["stages"].values():
        parts = stage["read_s"] + stage["compute_s"] + stage["write_s"] + stage["other_s"]
        assert parts == pytest.approx(stage["seconds"], abs=0.0026)
    assert document["bottleneck"]["stage"] in document["stages"]


@pytest.mark.parametrize("server", SERVERS)
def test_the_cost_is_what_the_counted_work_costs_by_the_price_list(s3_clients, server) -> None:
    """Computed here by hand: writes at 5 USD a million, reads at 0.4, cores at 0.0504 an hour."""
    client = s3_clients(server)
    runs = small_runs(client, s3_clients(server), f"accounts/cost-{server}")
    runs.records.insert(*(runs.document(number) for number in range(10)))
    observer = Observer(client)
    ledger = runs.run(Generation("dag/run"))
    writes = observer.requests["PutObject"]
    reads = observer.requests["GetObject"] + observer.requests["HeadObject"]
    assert writes + reads == observer.requests.total()
    by_hand = writes * 5e-6 + reads * 0.4e-6 + ledger.work.cpu_s / 3600 * 0.0504
    cost = ledger.document()["cost"]
    assert cost["currency"] == "USD"
    assert cost["total"] == pytest.approx(by_hand)
    assert cost["per_1000_records"] == pytest.approx(by_hand * 100)
    assert ledger.work.cpu_s > 0


@pytest.mark.parametrize("size", [0, 1, 16 * MEBIBYTE - 1, 16 * MEBIBYTE, 33 * MEBIBYTE + 7])
def test_the_requests_of_an_upload_follow_from_its_size(objects, tmp_path: Path, size: int) -> None:
    """A shard's header cannot count its own upload, so its reader counts it by its size."""
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    before = dict(objects.requests)
    objects.put_file("some/file.bin", path)
    assert made(before, objects.requests) == dict(objects.upload_requests(size))


def test_a_small_object_is_uploaded_as_a_small_file_is(objects) -> None:
    """Manifests and assessments are counted by the same rule."""
    before = dict(objects.requests)
    objects.put_bytes("some/manifest.json", b"{}")
    assert made(before, objects.requests) == dict(objects.upload_requests(2))


@pytest.mark.parametrize("size", [0, 1_000, 17 * MEBIBYTE])
def test_moved_bytes_are_those_of_the_objects(objects, tmp_path: Path, size: int) -> None:
    """By direction, in one piece and in several."""
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    before = dict(objects.moved)
    uri = objects.put_file("some/file.bin", path)
    objects.get_file(uri, tmp_path / "back")
    list(objects.keys("some/"))
    moved = made(before, objects.moved)
    assert moved == ({"sent": size, "received": size} if size else {})
    assert size < GIBIBYTE
