"""What garbage collection deletes and keeps, on real stores: all of the garbage, and nothing in use."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.adapters.mongo.registry import MongoDatasets, MongoRuns
from mnist_ops.adapters.s3.objects import S3Objects
from mnist_ops.domain.images import Validators
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.ports import GarbageStore
from mnist_ops.domain.retention import KINDS, GcResult, Retention
from mnist_ops.steps.artifacts.datasets import read_dataset
from mnist_ops.steps.artifacts.shard_kinds import IMAGES
from mnist_ops.steps.artifacts.shards import open_shard
from mnist_ops.steps.collect_garbage import ReferenceIndex, collect_garbage
from tests.support.small_runs import EVERYTHING_AGAIN, SmallRuns

RULE = Retention(older_than=timedelta(days=30), grace=timedelta(days=90))
DAY = timedelta(days=1)


@dataclass
class Deployment:
    """A small deployment whose garbage is collected.

    Attributes:
        runs: the ports and the steps.
        store: lists and deletes.
    """

    runs: SmallRuns
    store: GarbageStore

    @property
    def index(self) -> ReferenceIndex:
        """Finds what is in use."""
        return ReferenceIndex(self.runs.objects, self.runs.runs, self.runs.datasets)

    def collect(self, days: float = 40, *, delete: bool = True) -> GcResult:
        """Collect garbage as if this many days had passed."""
        now = datetime.now(UTC) + days * DAY
        return collect_garbage(self.index, self.store, rule=RULE, now=now, delete=delete)

    def contents(self) -> dict[str, bytes]:
        """Every object's bytes, by key."""
        objects = self.runs.objects
        return {key: objects.get_bytes(objects.uri(key)) for key in objects.keys("")}

    def deleted(self, days: float = 40) -> set[str]:
        """Collect garbage, check that every other object is as it was, and return the deleted keys."""
        before = self.contents()
        result = self.collect(days)
        after = self.contents()
        assert after == {key: before[key] for key in after}
        gone = before.keys() - after.keys()
        assert result.deleted == len(gone) == sum(totals.number for totals in result.garbage.values())
        return gone


@pytest.fixture(params=["memory", "seaweedfs", "moto"])
def deployment(request) -> Deployment:
    """Ten records; with a real object store come the registries of a real database."""
    if request.param == "memory":
        objects = InMemoryObjects()
        runs = SmallRuns(objects, InMemoryRecords())
    else:
        name = f"gc/{request.param}/{abs(hash(request.node.name))}"
        client = request.getfixturevalue("s3_clients")(request.param)
        objects = S3Objects(client, "mnist-ops", name)
        objects.ensure_bucket()
        database = request.getfixturevalue("database")
        runs = SmallRuns(objects, InMemoryRecords(), MongoRuns(database), MongoDatasets(database))
    runs.records.insert(*(runs.document(number) for number in range(10)))
    return Deployment(runs, objects)


def keys_of(deployment: Deployment, uris: list[str]) -> set[str]:
    """The keys of URIs."""
    return {uri.removeprefix(deployment.runs.objects.uri("")) for uri in uris}


def test_nothing_of_a_finished_run_is_ever_deleted(deployment) -> None:
    """Not even after years: its records can be traced to their images."""
    deployment.runs.run(Generation("dag/run"))
    assert deployment.deleted(days=4000) == set()


def test_objects_of_attempts_that_lost_are_deleted(deployment) -> None:
    """A snapshot that was not committed, and shards of tasks that were killed and ran again."""
    runs, generation = deployment.runs, Generation("dag/run")
    manifest = runs.snapshot(generation)
    lost = runs.fetch(manifest)
    lost += runs.classify(lost)
    images = runs.fetch(manifest)
    predictions = runs.classify(images)
    lost += runs.publish(manifest, predictions)
    runs.objects.put_bytes("snapshots/dag/run/killed/part-00000.bson.gz", b"half a part")
    ledger = runs.reconcile(manifest, runs.publish(manifest, predictions))
    gone = deployment.deleted()
    # Two attempts that took the same time, to the millisecond, may have written the same object.
    garbage = keys_of(deployment, lost) - keys_of(deployment, ledger.refers_to)
    assert garbage | {"snapshots/dag/run/killed/part-00000.bson.gz"} == {
        key for key in gone if not key.startswith("assessments/")
    }
    assert {key.partition("/")[0] for key in gone} >= {"snapshots", "images", "predictions"}
    assert deployment.deleted() == set()


def test_young_garbage_stays(deployment) -> None:
    """Until thirty days have passed."""
    manifest = deployment.runs.snapshot(Generation("dag/run"))
    deployment.runs.fetch(manifest)
    images = deployment.runs.fetch(manifest)
    predictions = deployment.runs.classify(images)
    deployment.runs.reconcile(manifest, deployment.runs.publish(manifest, predictions))
    assert deployment.deleted(days=29) == set()
    assert len(deployment.deleted(days=31)) == 3


def test_a_run_without_a_ledger_stays_until_the_grace_period_is_over(deployment) -> None:
    """Its outcome is unknown: it may still be waiting, or its ledger may be lost."""
    manifest = deployment.runs.snapshot(Generation("dag/run"))
    deployment.runs.publish(manifest, deployment.runs.classify(deployment.runs.fetch(manifest)))
    assert deployment.deleted(days=89) == set()
    gone = deployment.deleted(days=91)
    assert {key.partition("/")[0] for key in gone} == set(KINDS)


def test_a_run_with_parts_missing_is_not_finished(deployment) -> None:
    """Its ledger names the missing part, and somebody may still clear the task that failed."""
    runs = deployment.runs
    manifest = runs.snapshot(Generation("dag/run"))
    predictions = runs.classify(runs.fetch(manifest))
    outcomes = runs.publish(manifest, predictions)
    with pytest.raises(Exception, match="no outcome of part 1"):
        runs.reconcile(manifest, [outcomes[0], outcomes[2]])
    assert deployment.deleted(days=89) == set()
    gone = deployment.deleted(days=91)
    assert keys_of(deployment, [outcomes[1], predictions[1]]) <= gone
    assert not keys_of(deployment, [manifest, outcomes[0], predictions[2]]) & gone


def test_objects_newer_than_the_ledger_stay_until_the_grace_period_is_over(deployment) -> None:
    """They belong to tasks that ran again, and may still be used."""
    runs, generation = deployment.runs, Generation("dag/run")
    runs.run(generation)
    manifest = runs.runs.committed(generation)
    # Stores give times in whole seconds.
    again = runs.fetch(manifest)
    ledger = next(iter(runs.runs.ledgers()))
    runs.runs.put_ledger(replace(_ledger_of(runs, manifest), finished_at=ledger["finished_at"] - DAY / 1440))
    assert deployment.deleted(days=40) == set()
    assert deployment.deleted(days=91) >= keys_of(deployment, again)


def _ledger_of(runs: SmallRuns, manifest: str):
    outcomes = [
        uri
        for ledger in runs.runs.ledgers()
        for uri in ledger["refers_to"]
        if "/outcomes/" in uri and ledger["manifest"] == manifest
    ]
    return runs.reconcile(manifest, outcomes)


def test_a_cleared_run_keeps_what_both_generations_stored(deployment) -> None:
    """Each generation has its own ledger."""
    deployment.runs.run(Generation("dag/run", 0))
    deployment.runs.run(Generation("dag/run", 1), **EVERYTHING_AGAIN)
    assert deployment.deleted(days=4000) == set()


def test_the_committed_snapshot_of_a_second_generation_is_no_lost_attempt(deployment) -> None:
    """Even where the first generation's ledger is written again later than the snapshot."""
    runs = deployment.runs
    runs.run(Generation("dag/run", 0))
    second = runs.snapshot(Generation("dag/run", 1), **EVERYTHING_AGAIN)
    _ledger_of(runs, runs.runs.committed(Generation("dag/run", 0)))
    assert deployment.deleted(days=89) == set()
    assert deployment.deleted(days=91) == {
        *keys_of(deployment, [second]),
        *(f"{keys_of(deployment, [second]).pop().rpartition('/')[0]}/part-0000{n}.bson.gz" for n in range(3)),
    }


def test_images_of_a_data_set_stay_and_so_does_its_snapshot(deployment) -> None:
    """A training has no ledger; what its data set does not need goes after the grace period."""
    runs = deployment.runs
    runs.records.insert(*(runs.document(number, label="seven") for number in range(20, 26)))
    first = runs.dataset(Generation("train/one"))
    late = runs.fetch(runs.runs.committed(Generation("train/one")))
    runs.dataset(Generation("train/two"), reuse=first)
    gone = deployment.deleted(days=4000)
    # The second data set's own shards hold no image: all of them are in the first one's.
    own = {key for key in gone if key.startswith("images/train/two/0/")}
    assert (gone, len(own)) == (keys_of(deployment, late) | own, 2)
    third = runs.dataset(Generation("train/three"), reuse=first)
    assert read_dataset(runs.objects, third).folds == read_dataset(runs.objects, first).folds


def test_a_run_in_progress_keeps_the_images_that_it_reuses(deployment) -> None:
    """Its fetch found them in a shard that nothing else refers to."""
    runs = deployment.runs
    for url in runs.images.images:
        runs.images.validators[url] = _version(url)
    ledger = runs.run(Generation("dag/run"))
    later = runs.snapshot(Generation("dag/later"), **EVERYTHING_AGAIN)
    reusing = runs.fetch(later)
    reused = set()
    for uri in reusing:
        with open_shard(runs.objects, uri, IMAGES) as shard:
            reused.update(shard.header.refers_to)
    assert len(reused) == 3
    runs.runs.put_ledger(replace(ledger, refers_to=[u for u in ledger.refers_to if u not in reused]))
    # The predictions made from them are older than the ledger, and named in it.
    assert deployment.deleted(days=40) == set()
    assert runs.classify(reusing)


def _version(url: str):
    return Validators(f'"{url}"', None)


def test_foreign_objects_stay(deployment) -> None:
    """Another user of the bucket may have folders of the same names."""
    for key in (
        "images/cat.png",
        "images/dag/run/0/part-00000-abc.parquet",
        "snapshots/dag/run/attempt/notes.txt",
        "predictions/weekly/report.parquet",
        "trainings/dag/run/0/checkpoint-old.ckpt",
        "other/part-00000.bson.gz",
    ):
        deployment.runs.objects.put_bytes(key, b"foreign")
    assert deployment.deleted(days=4000) == set()


def test_a_dry_run_deletes_nothing(deployment) -> None:
    """It reports number and size of the garbage by kind."""
    runs = deployment.runs
    runs.fetch(runs.snapshot(Generation("dag/run")))
    before = deployment.contents()
    result = deployment.collect(days=100, delete=False)
    assert deployment.contents() == before
    assert {kind: totals.number for kind, totals in result.garbage.items()} == {"snapshots": 4, "images": 3}
    size = sum(len(data) for key, data in before.items() if key.startswith("images/"))
    assert result.garbage["images"].size == size


def test_garbage_that_came_into_use_meanwhile_is_kept(deployment) -> None:
    """References are read again just before anything is deleted."""
    runs = deployment.runs
    manifest = runs.snapshot(Generation("dag/run"))
    outcomes = runs.publish(manifest, runs.classify(runs.fetch(manifest)))

    class Meanwhile:
        """Finishes the run once everything is listed."""

        def __getattr__(self, name: str):
            return getattr(deployment.store, name)

        def unfinished_uploads(self, prefix: str):
            if prefix == f"{KINDS[-1]}/":
                runs.reconcile(manifest, outcomes)
            return iter(())

    before = deployment.contents()
    now = datetime.now(UTC) + 100 * DAY
    result = collect_garbage(deployment.index, Meanwhile(), rule=RULE, now=now, delete=True)
    assert result.garbage
    assert (result.deleted, len(result.reused)) == (
        0,
        sum(totals.number for totals in result.garbage.values()),
    )
    assert deployment.contents() == before


def test_a_garbage_collection_that_is_killed_does_no_harm(deployment) -> None:
    """The next one deletes the rest, and what is in use is not touched."""
    runs = deployment.runs
    manifest = runs.snapshot(Generation("dag/run"))
    lost = runs.fetch(manifest)
    runs.reconcile(manifest, runs.publish(manifest, runs.classify(runs.fetch(manifest))))
    kept = deployment.contents().keys() - keys_of(deployment, lost)

    class Dies:
        """Is killed when one object is deleted."""

        def __getattr__(self, name: str):
            return getattr(deployment.store, name)

        def delete(self, keys):
            deployment.store.delete(keys[:1])
            raise KeyboardInterrupt

    now = datetime.now(UTC) + 40 * DAY
    with pytest.raises(KeyboardInterrupt):
        collect_garbage(deployment.index, Dies(), rule=RULE, now=now, delete=True)
    assert deployment.contents().keys() >= kept
    assert len(deployment.deleted()) == len(lost) - 1
    assert deployment.contents().keys() == kept


def test_a_data_set_that_cannot_be_read_stops_the_collection(deployment) -> None:
    """What it refers to is unknown, so nothing may be deleted."""
    runs = deployment.runs
    runs.fetch(runs.snapshot(Generation("dag/run")))
    runs.datasets.put_dataset(
        runs.objects.uri(f"datasets/dag/lost/0/dataset-{'0' * 64}.json"), datetime.now(UTC)
    )
    before = deployment.contents()
    with pytest.raises(Exception, match="no such object"):
        deployment.collect(days=100)
    assert deployment.contents() == before


@pytest.mark.parametrize("server", ["seaweedfs", "moto"])
def test_abandoned_uploads_are_aborted(s3_clients, server) -> None:
    """Their parts cost space and no listing of objects shows them; young and foreign ones stay."""
    client = s3_clients(server)
    store = S3Objects(client, "mnist-ops", f"gc/uploads-{server}")
    store.ensure_bucket()
    deployment = Deployment(SmallRuns(store, InMemoryRecords()), store)
    for key in ("snapshots/dag/run/killed/part-00000.bson.gz", "elsewhere/file"):
        begun = client.create_multipart_upload(Bucket="mnist-ops", Key=f"gc/uploads-{server}/{key}")
        client.upload_part(
            Bucket="mnist-ops",
            Key=f"gc/uploads-{server}/{key}",
            UploadId=begun["UploadId"],
            PartNumber=1,
            Body=b"x",
        )
    if server != "moto":  # which gives 2010 as the start of every upload
        assert deployment.collect(days=29).deleted == 0
    assert deployment.collect(days=31).deleted == 1
    assert [upload.key for upload in store.unfinished_uploads("")] == ["elsewhere/file"]
    assert deployment.collect(days=31).deleted == 0


@pytest.mark.parametrize("server", ["seaweedfs", "moto"])
def test_deleting_an_object_that_no_longer_exists_succeeds(s3_clients, server) -> None:
    """Two garbage collections may run at once."""
    client = s3_clients(server)
    store = S3Objects(client, "mnist-ops", f"gc/gone-{server}")
    store.ensure_bucket()
    store.put_bytes("a", b"1")
    assert store.delete(["a", "b"]) == {}
    assert store.delete(["a", *map(str, range(1_500))]) == {}
    assert list(store.keys("")) == []
