"""What a sweep deletes and what it leaves, on real stores: nothing that is in use, and all of the debris."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from mnist_ops.adapters.memory.stores import InMemoryObjects, InMemoryRecords
from mnist_ops.adapters.mongo.registry import MongoDatasets, MongoRuns
from mnist_ops.adapters.s3.garbage import S3Sweeper
from mnist_ops.adapters.s3.objects import S3Objects
from mnist_ops.domain.images import Validators
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.ports import ObjectSweeper
from mnist_ops.domain.retention import KINDS, Retention, Sweep
from mnist_ops.steps.artifacts.datasets import read_dataset
from mnist_ops.steps.artifacts.shards import open_shard
from mnist_ops.steps.collect_garbage import Places, collect_garbage
from tests.support.small_runs import EVERYTHING_AGAIN, SmallRuns

RULE = Retention(older_than=timedelta(days=30), grace=timedelta(days=90))
DAY = timedelta(days=1)


@dataclass
class Deployment:
    """A deployment with its sweeper.

    Attributes:
        runs: the ports and the steps.
        sweeper: lists and deletes.
    """

    runs: SmallRuns
    sweeper: ObjectSweeper

    def sweep(self, days: float = 40, *, delete: bool = True) -> Sweep:
        """Sweep as if so many days had passed."""
        places = Places(self.runs.objects, self.runs.runs, self.runs.datasets)
        now = datetime.now(UTC) + days * DAY
        return collect_garbage(places, self.sweeper, rule=RULE, now=now, delete=delete)

    def contents(self) -> dict[str, bytes]:
        """Every object's bytes, by key."""
        objects = self.runs.objects
        return {key: objects.get_bytes(objects.uri(key)) for key in objects.keys("")}

    def swept(self, days: float = 40) -> set[str]:
        """Sweep; returns the keys that are gone, once every other object is seen to be as it was."""
        before = self.contents()
        sweep = self.sweep(days)
        after = self.contents()
        assert after == {key: before[key] for key in after}
        gone = before.keys() - after.keys()
        assert sweep.deleted == len(gone) == sum(heap.number for heap in sweep.debris.values())
        return gone


@pytest.fixture(params=["memory", "seaweedfs", "moto"])
def deployment(request) -> Deployment:
    """Ten records; with a real object store come the registries of a real database."""
    if request.param == "memory":
        objects = InMemoryObjects()
        runs, sweeper = SmallRuns(objects, InMemoryRecords()), objects
    else:
        name = f"sweep/{request.param}/{abs(hash(request.node.name))}"
        client = request.getfixturevalue("s3_clients")(request.param)
        objects = S3Objects(client, "mnist-ops", name)
        objects.ensure_bucket()
        database = request.getfixturevalue("database")
        runs = SmallRuns(objects, InMemoryRecords(), MongoRuns(database), MongoDatasets(database))
        sweeper = S3Sweeper(client, "mnist-ops", name)
    runs.records.insert(*(runs.document(number) for number in range(10)))
    return Deployment(runs, sweeper)


def keys_of(deployment: Deployment, uris: list[str]) -> set[str]:
    """The keys of URIs."""
    return {uri.removeprefix(deployment.runs.objects.uri("")) for uri in uris}


def test_nothing_of_a_finished_run_is_ever_swept(deployment) -> None:
    """Not after years: its records can be traced to their images."""
    deployment.runs.run(Generation("dag/run"))
    assert deployment.swept(days=4000) == set()


def test_what_attempts_that_lost_have_left_is_swept(deployment) -> None:
    """A snapshot nobody committed, and shards of tasks that were killed and done again."""
    runs, generation = deployment.runs, Generation("dag/run")
    manifest = runs.snapshot(generation)
    lost = runs.fetch(manifest)
    lost += runs.classify(lost)
    images = runs.fetch(manifest)
    predictions = runs.classify(images)
    lost += runs.publish(manifest, predictions)
    runs.objects.put_bytes("snapshots/dag/run/killed/part-00000.bson.gz", b"half a part")
    ledger = runs.reconcile(manifest, runs.publish(manifest, predictions))
    gone = deployment.swept()
    # Two attempts that took the same time, to the millisecond, may have written the same object.
    debris = keys_of(deployment, lost) - keys_of(deployment, ledger.refers_to)
    assert debris | {"snapshots/dag/run/killed/part-00000.bson.gz"} == {
        key for key in gone if not key.startswith("assessments/")
    }
    assert {key.partition("/")[0] for key in gone} >= {"snapshots", "images", "predictions"}
    assert deployment.swept() == set()


def test_young_debris_stays(deployment) -> None:
    """Thirty days are not over."""
    manifest = deployment.runs.snapshot(Generation("dag/run"))
    deployment.runs.fetch(manifest)
    images = deployment.runs.fetch(manifest)
    predictions = deployment.runs.classify(images)
    deployment.runs.reconcile(manifest, deployment.runs.publish(manifest, predictions))
    assert deployment.swept(days=29) == set()
    assert len(deployment.swept(days=31)) == 3


def test_a_run_without_a_ledger_stays_until_the_grace_is_over(deployment) -> None:
    """Its outcome is unknown: it may be held up, or its ledger may be lost."""
    manifest = deployment.runs.snapshot(Generation("dag/run"))
    deployment.runs.publish(manifest, deployment.runs.classify(deployment.runs.fetch(manifest)))
    assert deployment.swept(days=89) == set()
    left = deployment.swept(days=91)
    assert {key.partition("/")[0] for key in left} == set(KINDS)


def test_a_run_with_parts_missing_is_not_finished(deployment) -> None:
    """Its ledger is red, and somebody may still clear the task that failed."""
    runs = deployment.runs
    manifest = runs.snapshot(Generation("dag/run"))
    predictions = runs.classify(runs.fetch(manifest))
    outcomes = runs.publish(manifest, predictions)
    with pytest.raises(Exception, match="no outcome of part 1"):
        runs.reconcile(manifest, [outcomes[0], outcomes[2]])
    assert deployment.swept(days=89) == set()
    gone = deployment.swept(days=91)
    assert keys_of(deployment, [outcomes[1], predictions[1]]) <= gone
    assert not keys_of(deployment, [manifest, outcomes[0], predictions[2]]) & gone


def test_what_is_newer_than_the_ledger_is_of_tasks_that_ran_again(deployment) -> None:
    """Nobody knows yet what becomes of them."""
    runs, generation = deployment.runs, Generation("dag/run")
    runs.run(generation)
    manifest = runs.runs.committed(generation)
    # Stores tell times by the second.
    again = runs.fetch(manifest)
    ledger = next(iter(runs.runs.ledgers()))
    runs.runs.put_ledger(replace(_ledger_of(runs, manifest), finished_at=ledger["finished_at"] - DAY / 1440))
    assert deployment.swept(days=40) == set()
    assert deployment.swept(days=91) >= keys_of(deployment, again)


def _ledger_of(runs: SmallRuns, manifest: str):
    outcomes = [
        uri
        for ledger in runs.runs.ledgers()
        for uri in ledger["refers_to"]
        if "/outcomes/" in uri and ledger["manifest"] == manifest
    ]
    return runs.reconcile(manifest, outcomes)


def test_a_cleared_run_keeps_what_both_generations_stored(deployment) -> None:
    """Each has a ledger of its own."""
    deployment.runs.run(Generation("dag/run", 0))
    deployment.runs.run(Generation("dag/run", 1), **EVERYTHING_AGAIN)
    assert deployment.swept(days=4000) == set()


def test_the_second_snapshot_of_a_cleared_run_is_not_taken_for_a_lost_attempt(deployment) -> None:
    """Only the newest ledger of its run is older than it, or it is committed."""
    runs = deployment.runs
    runs.run(Generation("dag/run", 0))
    second = runs.snapshot(Generation("dag/run", 1), **EVERYTHING_AGAIN)
    _ledger_of(runs, runs.runs.committed(Generation("dag/run", 0)))
    assert deployment.swept(days=89) == set()
    assert deployment.swept(days=91) == {
        *keys_of(deployment, [second]),
        *(f"{keys_of(deployment, [second]).pop().rpartition('/')[0]}/part-0000{n}.bson.gz" for n in range(3)),
    }


def test_images_of_a_data_set_stay_and_so_does_its_snapshot(deployment) -> None:
    """A training has no ledger; what its data set does not need goes when the grace is over."""
    runs = deployment.runs
    runs.records.insert(*(runs.document(number, label="seven") for number in range(20, 26)))
    first = runs.dataset(Generation("train/one"))
    late = runs.fetch(runs.runs.committed(Generation("train/one")))
    runs.dataset(Generation("train/two"), reuse=first)
    gone = deployment.swept(days=4000)
    # The second data set's own shards hold no image: all of them lie in the first one's.
    own = {key for key in gone if key.startswith("images/train/two/0/")}
    assert (gone, len(own)) == (keys_of(deployment, late) | own, 2)
    third = runs.dataset(Generation("train/three"), reuse=first)
    assert read_dataset(runs.objects, third).folds == read_dataset(runs.objects, first).folds


def test_a_run_under_way_keeps_the_images_it_borrowed(deployment) -> None:
    """Its fetch found them in a shard that nothing else refers to."""
    runs = deployment.runs
    for url in runs.images.images:
        runs.images.validators[url] = _version(url)
    ledger = runs.run(Generation("dag/run"))
    later = runs.snapshot(Generation("dag/later"), **EVERYTHING_AGAIN)
    borrowing = runs.fetch(later)
    borrowed = set()
    for uri in borrowing:
        with open_shard(runs.objects, uri, "images") as shard:
            borrowed.update(shard.header.refers_to)
    assert len(borrowed) == 3
    runs.runs.put_ledger(replace(ledger, refers_to=[u for u in ledger.refers_to if u not in borrowed]))
    # What was predicted from them is older than the ledger, and in it.
    assert deployment.swept(days=40) == set()
    assert runs.classify(borrowing)


def _version(url: str):
    return Validators(f'"{url}"', None)


def test_foreign_objects_stay(deployment) -> None:
    """Whoever shares the bucket may have folders of the same names."""
    for key in (
        "images/cat.png",
        "images/dag/run/0/part-00000-abc.parquet",
        "snapshots/dag/run/attempt/notes.txt",
        "predictions/weekly/report.parquet",
        "trainings/dag/run/0/checkpoint-old.ckpt",
        "other/part-00000.bson.gz",
    ):
        deployment.runs.objects.put_bytes(key, b"somebody's")
    assert deployment.swept(days=4000) == set()


def test_nothing_is_deleted_unless_it_is_asked_for(deployment) -> None:
    """The dry run says what would go: how much of what."""
    runs = deployment.runs
    runs.fetch(runs.snapshot(Generation("dag/run")))
    before = deployment.contents()
    sweep = deployment.sweep(days=100, delete=False)
    assert deployment.contents() == before
    assert {kind: heap.number for kind, heap in sweep.debris.items()} == {"snapshots": 4, "images": 3}
    size = sum(len(data) for key, data in before.items() if key.startswith("images/"))
    assert sweep.debris["images"].size == size


def test_what_came_into_use_meanwhile_is_spared(deployment) -> None:
    """References are read again just before anything is deleted."""
    runs = deployment.runs
    manifest = runs.snapshot(Generation("dag/run"))
    outcomes = runs.publish(manifest, runs.classify(runs.fetch(manifest)))
    places = Places(runs.objects, runs.runs, runs.datasets)

    class Meanwhile:
        """Finishes the run once everything is listed."""

        def __getattr__(self, name: str):
            return getattr(deployment.sweeper, name)

        def unfinished_uploads(self, prefix: str):
            if prefix == f"{KINDS[-1]}/":
                runs.reconcile(manifest, outcomes)
            return iter(())

    before = deployment.contents()
    now = datetime.now(UTC) + 100 * DAY
    sweep = collect_garbage(places, Meanwhile(), rule=RULE, now=now, delete=True)
    assert sweep.debris
    assert (sweep.deleted, len(sweep.spared)) == (0, sum(heap.number for heap in sweep.debris.values()))
    assert deployment.contents() == before


def test_a_sweep_that_is_killed_does_no_harm(deployment) -> None:
    """What is left goes next time, and what is in use is not touched."""
    runs = deployment.runs
    manifest = runs.snapshot(Generation("dag/run"))
    lost = runs.fetch(manifest)
    runs.reconcile(manifest, runs.publish(manifest, runs.classify(runs.fetch(manifest))))
    kept = deployment.contents().keys() - keys_of(deployment, lost)

    class Dies:
        """Is killed when one object is gone."""

        def __getattr__(self, name: str):
            return getattr(deployment.sweeper, name)

        def delete(self, keys):
            deployment.sweeper.delete(keys[:1])
            raise KeyboardInterrupt

    places = Places(runs.objects, runs.runs, runs.datasets)
    with pytest.raises(KeyboardInterrupt):
        collect_garbage(places, Dies(), rule=RULE, now=datetime.now(UTC) + 40 * DAY, delete=True)
    assert deployment.contents().keys() >= kept
    assert len(deployment.swept()) == len(lost) - 1
    assert deployment.contents().keys() == kept


def test_a_data_set_that_cannot_be_read_stops_the_sweep(deployment) -> None:
    """Nobody knows what it refers to."""
    runs = deployment.runs
    runs.fetch(runs.snapshot(Generation("dag/run")))
    runs.datasets.put_dataset(
        runs.objects.uri(f"datasets/dag/lost/0/dataset-{'0' * 64}.json"), datetime.now(UTC)
    )
    before = deployment.contents()
    with pytest.raises(Exception, match="no such object"):
        deployment.sweep(days=100)
    assert deployment.contents() == before


@pytest.mark.parametrize("server", ["seaweedfs", "moto"])
def test_uploads_that_were_given_up_are_aborted(s3_clients, server) -> None:
    """Their pieces cost space and no listing of objects shows them; young ones, and those elsewhere, stay."""
    client = s3_clients(server)
    store = S3Objects(client, "mnist-ops", f"sweep/uploads-{server}")
    store.ensure_bucket()
    sweeper = S3Sweeper(client, "mnist-ops", f"sweep/uploads-{server}")
    deployment = Deployment(SmallRuns(store, InMemoryRecords()), sweeper)
    for key in ("snapshots/dag/run/killed/part-00000.bson.gz", "elsewhere/file"):
        begun = client.create_multipart_upload(Bucket="mnist-ops", Key=f"sweep/uploads-{server}/{key}")
        client.upload_part(
            Bucket="mnist-ops",
            Key=f"sweep/uploads-{server}/{key}",
            UploadId=begun["UploadId"],
            PartNumber=1,
            Body=b"x",
        )
    if server != "moto":  # which says of every upload that it was begun in 2010
        assert deployment.sweep(days=29).deleted == 0
    assert deployment.sweep(days=31).deleted == 1
    assert [upload.key for upload in sweeper.unfinished_uploads("")] == ["elsewhere/file"]
    assert deployment.sweep(days=31).deleted == 0


@pytest.mark.parametrize("server", ["seaweedfs", "moto"])
def test_what_is_gone_already_is_deleted_with_success(s3_clients, server) -> None:
    """Two sweeps may run at once."""
    client = s3_clients(server)
    store = S3Objects(client, "mnist-ops", f"sweep/gone-{server}")
    store.ensure_bucket()
    store.put_bytes("a", b"1")
    sweeper = S3Sweeper(client, "mnist-ops", f"sweep/gone-{server}")
    assert sweeper.delete(["a", "b"]) == {}
    assert sweeper.delete(["a", *map(str, range(1_500))]) == {}
    assert list(store.keys("")) == []
