"""Whole runs of both DAGs, on the real servers; each is run once and looked at from many sides."""

import gzip
import io
import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from mnist_ops.local.demo_records import EXPECTED_FAILURES
from mnist_ops.vision.config.schema import TrainingConfig

AIRFLOW_HOME = Path(os.environ["AIRFLOW_HOME"])
WAITING = 54
FAILING = len(EXPECTED_FAILURES)
PARTS = 3  # of 25 records


@dataclass(frozen=True)
class Observed:
    """A run, and what it made of its collection.

    Attributes:
        run: the run.
        before: the records before it, by id.
        records: the records after it, by id.
        ledger: the run's ledger; None where there is none.
        new_keys: the objects that it wrote.
    """

    run: Any
    before: Mapping[str, Mapping[str, Any]]
    records: Mapping[str, Mapping[str, Any]]
    ledger: Mapping[str, Any] | None
    new_keys: frozenset[str]

    @property
    def predictions(self) -> dict[str, Mapping[str, Any]]:
        """The predictions in the records, by id."""
        return {key: record["prediction"] for key, record in self.records.items() if "prediction" in record}


def run_key(dag_id: str, run_id: str) -> str:
    """How the pipeline names a run."""
    return f"{dag_id}/{quote(run_id, safe='')}"


def observe(deployment, run_dag, name: str, *records: Mapping[str, object], **conf: object) -> Observed:
    """Add records to a collection, run classify_records on it, and look at both sides of the run."""
    with deployment.collection(name, *records, records_per_part="25") as collection:
        before, keys = {record["_id"]: record for record in collection.find()}, deployment.object_keys()
        run = run_dag("classify_records", **conf)
        return Observed(
            run=run,
            before=before,
            records={record["_id"]: record for record in collection.find()},
            ledger=deployment.database["mnist_ops_ledgers"].find_one(
                {"run": run_key("classify_records", run.run_id)}
            ),
            new_keys=frozenset(deployment.object_keys() - keys),
        )


# train_lenet


def test_train_lenet_ends_well(trained) -> None:
    """Every task succeeds, the first time."""
    assert trained.state == "success"
    assert trained.tasks == {
        "plan": "success",
        "snapshot": "success",
        "fetch": ["success"],
        "build_dataset": "success",
        "start_instance": "success",
        "train": ["success"],
        "choose": "success",
        "evaluate": "success",
        "release": "success",
        "stop_instance": "success",
        "approve": "success",
        "promote": "success",
    }


def test_train_lenet_trains_with_the_forms_params(deployment, trained) -> None:
    """What is empty in the form stays at its default."""
    [training] = trained.xcoms["train", "return_value"]
    config = json.loads(deployment.read(training))["config"]
    assert (config["epochs"], config["batch_size"], config["seed"]) == (2, 32, 7)
    default = TrainingConfig()
    assert (config["optimizer"], config["learning_rate"]) == (default.optimizer, default.learning_rate)


def test_train_lenet_releases_the_first_champion(deployment, trained) -> None:
    """The registry in MongoDB says what the task returned."""
    result = trained.xcoms["promote", "return_value"]
    champion = deployment.database["mnist_ops_models"].find_one({"_id": "lenet5/champion"})
    assert result["promoted"] is True
    assert {name: champion[name] for name in ("name", "version", "uri", "digest")} == result["bundle"]


def test_train_lenet_tells_which_model_was_released_and_promoted(trained) -> None:
    """Other DAGs can wait for either."""
    bundle = trained.xcoms["promote", "return_value"]["bundle"]
    extra = {"model": "lenet5", "version": bundle["version"], "digest": bundle["digest"]}
    assert trained.asset_events == {"mnist_ops_model_released": extra, "mnist_ops_model_promoted": extra}


def test_the_note_of_a_training_says_what_became_of_its_model(trained) -> None:
    """The promotion first, then what the gate said of the release, then what it was trained on."""
    version, why = (trained.xcoms["release", "return_value"][name] for name in ("bundle", "why"))
    assert trained.note == (
        f"MNIST Ops: lenet5 {version['version']} is the champion\n"
        f"- released lenet5 {version['version']}; the gate allows its promotion: {why}\n"
        "- 400 records in 1 part\n- all human-labelled records"
    )


def test_a_promotion_without_an_approval_names_the_run_that_made_it(deployment, trained) -> None:
    """With the numbers of the gate."""
    [change] = champion_history(deployment)
    assert change["who"] == run_key("train_lenet", trained.run_id)
    assert change["why"] == trained.xcoms["release", "return_value"]["why"]


def champion_history(deployment) -> list[Mapping[str, Any]]:
    """Every change of the champion, newest first, as the registry keeps them."""
    return deployment.database["mnist_ops_models"].find_one({"_id": "lenet5/champion"})["history"]


@pytest.fixture(scope="module")
def nothing_labelled(deployment, run_dag) -> Any:
    """A run of train_lenet over records that nobody labelled."""
    with deployment.collection("nothing_labelled", *deployment.waiting(3)):
        return run_dag("train_lenet")


def test_with_nothing_labelled_train_lenet_is_skipped_and_not_failed(nothing_labelled) -> None:
    """From the fetching on; a weekly run before the first label alarms nobody."""
    assert nothing_labelled.state == "success"
    assert nothing_labelled.tasks == {
        "plan": "success",
        "snapshot": "success",
        "fetch": "skipped",
        "build_dataset": "skipped",
        "start_instance": "skipped",
        "train": "skipped",
        "choose": "skipped",
        "evaluate": "skipped",
        "release": "skipped",
        "stop_instance": "skipped",
        "approve": "skipped",
        "promote": "skipped",
    }


def test_with_nothing_labelled_no_model_is_said_to_be_released(nothing_labelled) -> None:
    """A skipped task updates no asset."""
    assert nothing_labelled.asset_events == {}


# classify_records


@pytest.fixture(scope="module")
def with_champion(deployment, trained) -> Any:
    """The deployment, once there is a champion to classify with."""
    assert trained.xcoms["promote", "return_value"]["promoted"]
    return deployment


@pytest.fixture(scope="module")
def classified(with_champion, run_dag) -> Observed:
    """The first run of classify_records over sixty records, six of which must fail; three parts."""
    records = [*with_champion.waiting(WAITING), *with_champion.failing()]
    return observe(with_champion, run_dag, "sixty", *records)


def test_classify_records_ends_well(classified) -> None:
    """Every task succeeds, the first time."""
    run = classified.run
    assert run.state == "success"
    assert run.tasks == {
        "snapshot": "success",
        "part.fetch": ["success"] * PARTS,
        "part.classify": ["success"] * PARTS,
        "assess": "success",
        "publish": ["success"] * PARTS,
        "reconcile": "success",
    }
    assert set(
        itertools.chain.from_iterable(v if isinstance(v, list) else [v] for v in run.tries.values())
    ) == {1}


def test_a_prediction_says_which_run_made_it_from_which_snapshot(classified) -> None:
    """Enough to find every object it came from."""
    run = classified.run
    digest = run.xcoms["snapshot", "manifest"].rpartition("-")[2].removesuffix(".json")
    for prediction in classified.predictions.values():
        assert prediction["run"] == run_key("classify_records", run.run_id)
        assert prediction["generation"] == 0
        assert prediction["snapshot"] == f"sha256:{digest}"


def test_the_ledger_accounts_for_every_record(classified) -> None:
    """Each in exactly one outcome."""
    assert classified.ledger["selected"] == WAITING + FAILING
    assert classified.ledger["outcomes"] == {
        "predicted": WAITING,
        "quarantined": FAILING,
        "retry_later": 0,
        "held": 0,
        "conflict": 0,
        "gone": 0,
    }
    assert classified.ledger["imbalance"] is None


def test_the_run_returns_what_the_ledger_says(classified) -> None:
    """So it is seen in the UI."""
    assert classified.run.xcoms["reconcile", "return_value"] == classified.ledger["outcomes"]


def test_the_run_leaves_its_counts(classified) -> None:
    """For programs: nobody has to parse a log or a note."""
    counts = classified.run.xcoms["reconcile", "counts"]
    assert (counts["selected"], counts["outcomes"]) == (WAITING + FAILING, classified.ledger["outcomes"])
    assert sum(counts["labels"].values()) == WAITING
    assert (counts["model_version"], counts["over_budget"]) == (1, False)


def test_the_note_of_a_run_says_what_it_did(classified) -> None:
    """Outcomes, window, champion, labels and failures."""
    lines = classified.run.note.splitlines()
    assert lines[0] == f"MNIST Ops: {WAITING + FAILING} records: {WAITING} predicted, {FAILING} quarantined"
    assert any(line.startswith("- created until ") and "reclassify never" in line for line in lines)
    assert "- champion lenet5 1" in lines
    assert any(line.startswith(f"- {FAILING} failed: ") for line in lines)


def test_a_part_is_shown_by_its_number_and_size(classified) -> None:
    """In every task that is mapped over the parts."""
    names = ["part 1 of 3, 25 records", "part 2 of 3, 25 records", "part 3 of 3, 10 records"]
    shown = {name: classified.run.map_names[name] for name in ("part.fetch", "part.classify", "publish")}
    assert shown == {"part.fetch": names, "part.classify": names, "publish": names}


def test_xcom_carries_uris_and_counts_never_data(classified) -> None:
    """Short strings, whatever the size of a part."""
    counted = {("reconcile", "return_value"), ("reconcile", "counts"), ("snapshot", "part_names")}
    notes = {("reconcile", "note"), ("snapshot", "note")}
    assert all(len(classified.run.xcoms[key]) < 3_000 for key in notes)
    for (task, key), value in classified.run.xcoms.items():
        if (task, key) not in counted | notes:
            # Where a link of Airflow's UI leads is an XCom, too.
            start = "/mnist-ops/run?" if key.startswith("_link_") else "s3://"
            items = value if isinstance(value, list) else [value]
            flat = itertools.chain.from_iterable(item if isinstance(item, list) else [item] for item in items)
            assert all(text.startswith(start) and len(text) < 400 for text in flat), (task, key)


def test_everything_a_run_writes_is_below_its_key(classified) -> None:
    """Two runs never write the same object."""
    part = f"/{run_key('classify_records', classified.run.run_id)}/"
    assert classified.new_keys
    assert all(part in f"/{key}" for key in classified.new_keys)


def test_the_run_tells_that_records_were_labelled(classified) -> None:
    """Other DAGs can wait for it, and see how many records, by which model, of which window."""
    assert classified.run.asset_events == {
        "mnist_ops_records_labelled": {
            "run": run_key("classify_records", classified.run.run_id),
            "generation": 0,
            "records": WAITING,
            "since": None,
            "until": classified.ledger["selection"]["until"],
            "model": "lenet5",
            "model_version": 1,
        }
    }


# A second run


@pytest.fixture(scope="module")
def again(deployment, run_dag, classified) -> Observed:
    """The same run once more."""
    assert classified.run.state == "success"
    return observe(deployment, run_dag, "sixty")


def test_a_second_run_is_green(again) -> None:
    """Nothing to do is no failure; what is mapped over nothing is skipped."""
    assert again.run.state == "success"
    assert again.run.tasks == {
        "snapshot": "success",
        "part.fetch": "skipped",
        "part.classify": "skipped",
        "assess": "skipped",
        "publish": "skipped",
        "reconcile": "success",
    }


def test_a_run_without_records_updates_no_asset(again) -> None:
    """There is no news for whoever waits for labelled records."""
    assert again.run.asset_events == {}


def test_the_note_of_a_run_without_records_says_so(again) -> None:
    """With the window in which none was found."""
    assert again.run.note.startswith("MNIST Ops: 0 records: none was waiting\n- created until ")


# What the form asks for


@pytest.fixture(scope="module")
def asked(with_champion, run_dag) -> Observed:
    """A run over a window of three days, limited to two records; one record was created a day."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    records = [
        record | {"created_at": start + timedelta(days=number)}
        for number, record in enumerate(reversed(with_champion.waiting(6)))
    ]
    window = {"since": "2026-03-02T00:00:00Z", "until": "2026-03-05T01:00:00+01:00"}
    return observe(with_champion, run_dag, "window", *records, **window, limit=2)


def test_a_run_takes_exactly_the_records_asked_for(asked) -> None:
    """The oldest two that were created in the window."""
    assert asked.run.state == "success"
    assert asked.predictions.keys() == {"waiting-4", "waiting-3"}


def test_a_run_of_a_single_part_ends_well(asked) -> None:
    """The mapped group runs once."""
    assert asked.run.tasks["part.classify"] == ["success"]
    assert asked.run.tasks["publish"] == ["success"]


def test_the_ledger_says_what_was_asked_for(asked) -> None:
    """Window and limit, in UTC."""
    selection = asked.ledger["selection"]
    assert selection["limit"] == 2
    assert str(selection["since"]).startswith("2026-03-02")
    assert str(selection["until"]).startswith("2026-03-05")


@pytest.fixture(scope="module")
def of_a_logical_date(deployment, run_dag, again) -> Observed:
    """A preview by hand for a logical date years ago, of everything."""
    assert again.run.state == "success"
    logical_date = datetime(2021, 1, 1, tzinfo=UTC)
    return observe(deployment, run_dag, "sixty", logical_date=logical_date, reclassify="all", dry_run=True)


def test_an_inferred_interval_does_not_limit_a_run_by_hand(of_a_logical_date) -> None:
    """Airflow infers one from the logical date, although nobody asked for it."""
    assert of_a_logical_date.run.state == "success"
    assert f"{WAITING + FAILING} records would be taken" in of_a_logical_date.run.log


# Previews


@pytest.fixture(scope="module")
def previewed(with_champion, run_dag) -> Observed:
    """A dry run over three waiting records."""
    return observe(with_champion, run_dag, "dry", *with_champion.waiting(3), dry_run=True)


def test_a_dry_run_is_green_and_skips_every_task(previewed) -> None:
    """Whoever asks for a count gets no red run."""
    assert set(previewed.run.tasks.values()) == {"skipped"}
    assert previewed.run.state == "success"


def test_a_dry_run_says_how_many_records_would_be_taken(previewed) -> None:
    """In the log of its snapshot, as its XCom, and in the note of the run."""
    assert "3 records would be taken" in previewed.run.log
    assert previewed.run.xcoms["snapshot", "count"] == 3
    assert previewed.run.note.startswith("MNIST Ops: 3 records would be taken; nothing was written\n")


def test_a_dry_run_that_could_not_count_is_red(with_champion, run_dag) -> None:
    """Nobody takes it for an answer; the note names the task and its error."""
    with with_champion.collection("misspelt_dry", *with_champion.waiting(2)) as _:
        run = run_dag("classify_records", dry_run=True, limt=1)
    assert (run.tasks["snapshot"], run.tasks["reconcile"], run.state) == ("failed", "failed", "failed")
    assert run.note.startswith("MNIST Ops: snapshot failed: limt: no such parameter")


def test_a_dry_run_writes_nothing(deployment, previewed) -> None:
    """No record, no object, no commit and no ledger."""
    runs = deployment.database["mnist_ops_runs"]
    assert previewed.records == previewed.before
    assert previewed.new_keys == frozenset()
    assert runs.find_one({"run": run_key("classify_records", previewed.run.run_id)}) is None
    assert previewed.ledger is None


def test_a_dry_run_updates_no_asset(previewed) -> None:
    """Nothing was labelled."""
    assert previewed.run.asset_events == {}


# Red runs


@pytest.fixture(scope="module")
def held(with_champion, run_dag) -> Observed:
    """A run in which twelve of fifty records fail: more than the budget of a fifth."""
    records = [*with_champion.waiting(38), *with_champion.failing(copies=2)]
    return observe(with_champion, run_dag, "held", *records)


def test_a_run_with_too_many_failures_is_red(held) -> None:
    """Its ledger task alone fails, at once, and decides."""
    assert held.run.state == "failed"
    assert held.run.tasks["publish"] == ["success", "success"]
    assert held.run.tasks["reconcile"] == "failed"
    assert held.run.tries["reconcile"] == 1


def test_a_held_run_says_why_and_how_to_release_it(held) -> None:
    """In the log of the task that failed."""
    assert "12 of 50 records failed" in held.run.log
    assert "mnist-ops runs release-hold" in held.run.log


def test_a_held_run_tells_nobody_that_records_were_labelled(held) -> None:
    """A failed task updates no asset."""
    assert held.run.asset_events == {}


def test_the_note_of_a_red_run_begins_with_the_reason(held) -> None:
    """And holds the command that releases the run."""
    lines = held.run.note.splitlines()
    assert lines[0].startswith("MNIST Ops: 12 of 50 records failed (")
    assert any(line.startswith("- `mnist-ops runs release-hold classify_records/") for line in lines)
    assert held.run.xcoms["reconcile", "counts"]["over_budget"] is True


@pytest.fixture(scope="module")
def unreleased(with_champion, run_dag) -> Observed:
    """A run before any model of that name was released."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNIST_OPS_MODEL_NAME", "unheard_of")
        return observe(with_champion, run_dag, "unreleased", *with_champion.waiting(3))


def test_without_a_model_the_run_is_red_before_anything_is_fetched(unreleased) -> None:
    """No image server is asked for nothing."""
    assert unreleased.run.state == "failed"
    assert unreleased.run.tasks["snapshot"] == "failed"
    assert unreleased.run.tasks["part.fetch"] == "upstream_failed"
    assert unreleased.new_keys == frozenset()


def test_without_a_model_the_run_says_what_to_do(unreleased) -> None:
    """In the log of its snapshot."""
    assert "no unheard_of was released yet: run train_lenet first" in unreleased.run.log


def test_where_the_snapshot_failed_the_ledger_task_says_so_at_once(unreleased) -> None:
    """It has nothing to account for, and no retry changes that."""
    assert unreleased.run.tasks["reconcile"] == "failed"
    assert "the snapshot left no manifest" in unreleased.run.log
    assert unreleased.run.tries["reconcile"] == 1


# Secrets, in every run of this module


@pytest.fixture(scope="module")
def every_run(request) -> list[Any]:
    """All of them."""
    names = ("classified", "again", "asked", "of_a_logical_date", "previewed", "held", "unreleased")
    observed = (request.getfixturevalue(name) for name in names)
    trainings = (request.getfixturevalue(name) for name in ("trained", "nothing_labelled"))
    return [*trainings, *(one.run for one in observed)]


def plain(key: str, data: bytes) -> bytes:
    """What an object says, uncompressed."""
    if key.endswith(".gz"):
        return gzip.decompress(data)
    if key.endswith(".parquet"):
        with pq.ParquetFile(io.BytesIO(data)) as file:
            return repr((file.metadata.metadata, file.read().to_pylist())).encode()
    return data


def leaks(deployment, text: str | bytes) -> list[str]:
    """The secrets that a text holds."""
    data = text if isinstance(text, bytes) else text.encode()
    return [secret for secret in deployment.secrets if secret.encode() in data]


def test_the_secrets_are_the_ones_that_are_used(deployment) -> None:
    """Otherwise nothing could leak: the database takes no other password."""
    given = json.loads(os.environ["AIRFLOW_CONN_MONGO_DEFAULT"])
    with (
        MongoClient(
            "127.0.0.1", given["port"], username=given["login"], password="wrong", authSource=deployment.name
        ) as client,
        pytest.raises(OperationFailure),
    ):
        client[deployment.name].command("ping")
    assert given["password"] in deployment.secrets


def test_no_xcom_holds_a_secret(deployment, every_run) -> None:
    """They are shown in the UI."""
    assert [leaks(deployment, repr(run.xcoms)) for run in every_run] == [[]] * len(every_run)


def test_no_rendered_template_holds_a_secret(deployment, every_run) -> None:
    """They are shown in the UI."""
    assert all(run.rendered for run in every_run)
    assert not [leak for run in every_run for text in run.rendered for leak in leaks(deployment, text)]


def test_no_log_line_holds_a_secret(deployment, every_run) -> None:
    """Of the tasks, of Airflow, and of the processes that tasks start."""
    assert all("[DAG TEST] starting" in run.log for run in every_run)
    assert not [leak for run in every_run for leak in leaks(deployment, run.log)]


@pytest.mark.usefixtures("every_run")
def test_no_object_in_s3_holds_a_secret(deployment) -> None:
    """Neither a manifest nor a shard, compressed or not."""
    keys = deployment.object_keys()
    assert len(keys) > 30
    assert not [key for key in keys if leaks(deployment, plain(key, deployment.read(key)))]


@pytest.mark.usefixtures("every_run")
def test_no_document_of_the_pipeline_holds_a_secret(deployment) -> None:
    """Neither a commit, a ledger, a model nor a record."""
    names = [name for name in deployment.database.list_collection_names() if not name.startswith("system.")]
    assert {"mnist_ops_runs", "mnist_ops_ledgers", "mnist_ops_models"} <= set(names)
    documents = ((name, repr(list(deployment.database[name].find()))) for name in names)
    assert not [name for name, text in documents if leaks(deployment, text)]


@pytest.mark.usefixtures("every_run")
def test_airflows_own_database_holds_no_secret(deployment) -> None:
    """Connections from the environment stay there."""
    files = list(AIRFLOW_HOME.glob("airflow.db*"))
    assert files
    assert [leaks(deployment, file.read_bytes()) for file in files] == [[]] * len(files)


def test_a_misspelt_parameter_fails_the_run_by_its_name(with_champion, run_dag) -> None:
    """Airflow's form lets it pass; without its limit the run would take everything."""
    with with_champion.collection("misspelt", *with_champion.waiting(2)) as _:
        run = run_dag("classify_records", limt=1)
    assert run.state == "failed"
    assert "limt: no such parameter" in run.log
