"""A running deployment, seen from outside: Airflow by its REST API, data by the project's adapters."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo.collection import Collection

from mnist_ops.adapters.airflow_rest import AirflowRest, Json
from mnist_ops.adapters.mongo.connection import mongo_client
from mnist_ops.adapters.s3.connection import s3_client
from mnist_ops.connections import read_connection
from mnist_ops.domain.keys import run_key
from mnist_ops.local.layout import Layout
from mnist_ops.settings import Settings
from mnist_ops.wiring import Adapters

CLASSIFY, TRAIN = "classify_records", "train_lenet"
TIMEOUT_S = 240.0

Documents = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Run:
    """A run that has finished.

    Attributes:
        facts: what Airflow says of it.
        tasks: the states of its task instances by task.
        ledgers: of its generations, oldest first.
    """

    facts: Json
    tasks: Mapping[str, list[str]]
    ledgers: tuple[Mapping[str, Any], ...]

    @property
    def id(self) -> str:
        """What Airflow calls it."""
        return str(self.facts["dag_run_id"])

    @property
    def state(self) -> str:
        """How it ended."""
        return str(self.facts["state"])

    @property
    def key(self) -> str:
        """How the project names it."""
        return run_key(str(self.facts["dag_id"]), self.id)

    @property
    def ledger(self) -> Mapping[str, Any]:
        """Of its newest generation."""
        return self.ledgers[-1]

    def moment(self, name: str) -> datetime:
        """One of its times, such as start_date."""
        return datetime.fromisoformat(str(self.facts[name]))


@dataclass(frozen=True)
class Stage:
    """A piece of a course through a deployment: its runs, and all records before and after it.

    Attributes:
        deployment: as this stage has left it.
        runs: by the name that the stage gives them.
        before: the records by id.
        after: the records by id.
    """

    deployment: "Deployment"
    runs: Mapping[str, Run]
    before: Documents
    after: Documents

    @property
    def changed(self) -> set[str]:
        """The ids of the records that are not as they were, or were not there."""
        return {name for name, document in self.after.items() if document != self.before.get(name)}

    def predicted_by(self, run: str) -> set[str]:
        """The ids of the records whose prediction, after this stage, is of one of its runs."""
        return self._written_by(run, "prediction")

    def failed_in(self, run: str) -> set[str]:
        """The ids of the records whose failure, after this stage, is of one of its runs."""
        return self._written_by(run, "prediction_failure")

    def _written_by(self, run: str, field: str) -> set[str]:
        key = self.runs[run].key
        return {name for name, document in self.after.items() if document.get(field, {}).get("run") == key}


@dataclass(frozen=True)
class Deployment:
    """A running deployment.

    Attributes:
        airflow: its REST API.
        adapters: its records, runs, models and objects.
        collection: the records, as a website or a human writes to them.
    """

    airflow: AirflowRest
    adapters: Adapters
    collection: Collection[dict[str, Any]]

    @classmethod
    @contextmanager
    def of(cls, layout: Layout, airflow: AirflowRest) -> Iterator["Deployment"]:
        """The deployment of an embedded stack."""
        settings = Settings(local_dir=layout.root)
        with mongo_client(read_connection("mongo_default", {}, layout.root)) as client:
            adapters = Adapters(
                settings,
                mongo=lambda: client,
                s3=lambda: s3_client(read_connection("aws_default", {}, layout.root)),
            )
            yield cls(airflow, adapters, client[settings.mongo_database][settings.mongo_collection])

    def documents(self) -> Documents:
        """All records by id."""
        return {str(document["_id"]): document for document in self.adapters.records.documents()}

    def trigger(
        self,
        conf: Mapping[str, object] | None = None,
        logical_date: datetime | None = None,
        interval: tuple[datetime, datetime] | None = None,
    ) -> str:
        """Start a run of `classify_records` by hand; returns its id."""
        body = {"logical_date": logical_date.isoformat() if logical_date else None, "conf": dict(conf or {})}
        if interval is not None:
            body |= {
                "data_interval_start": interval[0].isoformat(),
                "data_interval_end": interval[1].isoformat(),
            }
        return str(self.airflow.call("POST", f"/dags/{CLASSIFY}/dagRuns", body)["dag_run_id"])

    def clear(self, run_id: str, task: str | None = None, **options: object) -> None:
        """Clear a run of `classify_records`: a task and what comes after it, or all of it."""
        body: dict[str, object] = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, **options}
        if task is not None:
            body |= {"task_ids": [task], "include_downstream": True}
        self.airflow.call("POST", f"/dags/{CLASSIFY}/clearTaskInstances", body)

    def backfill(
        self, windows: Mapping[str, tuple[datetime, datetime]], **options: object
    ) -> Mapping[str, str]:
        """Start a backfill of `classify_records` over days in a row, two at a time.

        Returns:
            The ids of its runs, named as the windows.
        """
        self.close_former_backfills()
        usual = {"reprocess_behavior": "none", "run_backwards": False, "max_active_runs": 2}
        starts = sorted(since for since, _ in windows.values())
        self.airflow.backfill(CLASSIFY, starts[0], starts[-1], {**usual, "dag_run_conf": {}, **options})
        runs = [run for run in self.airflow.runs(CLASSIFY) if run["run_type"] == "backfill"]
        by_start = {datetime.fromisoformat(str(run["data_interval_start"])): run for run in runs}
        return {name: str(by_start[since]["dag_run_id"]) for name, (since, _) in windows.items()}

    def close_former_backfills(self) -> None:
        """Complete the backfills whose runs have finished: Airflow takes one at a time."""
        for backfill in self.airflow.call("GET", f"/backfills?dag_id={CLASSIFY}")["backfills"]:
            if not backfill["completed_at"]:
                self.airflow.wait_for_backfill(int(backfill["id"]), TIMEOUT_S)

    def first_run(self, dag_id: str) -> str:
        """Wait for a DAG's first run to begin; its id."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            if runs := self.airflow.runs(dag_id):
                return str(runs[0]["dag_run_id"])
            time.sleep(0.5)
        raise AssertionError(f"{dag_id} has no run after {TIMEOUT_S:.0f} s")

    def finished(self, run_id: str, dag_id: str = CLASSIFY) -> Run:
        """Wait for a run, and look at it."""
        self.airflow.wait(dag_id, run_id, TIMEOUT_S)
        ledgers = self.adapters.runs.ledgers(f"{run_key(dag_id, run_id)}/")
        states: dict[str, list[str]] = {}
        for instance in self.airflow.task_instances(dag_id, run_id):
            states.setdefault(str(instance["task_id"]), []).append(str(instance["state"]))
        return Run(
            facts=self.airflow.run(dag_id, run_id),
            tasks=states,
            ledgers=tuple(sorted(ledgers, key=lambda ledger: ledger["generation"])),
        )

    def all_finished(self, runs: Mapping[str, str]) -> dict[str, Run]:
        """Wait for runs of `classify_records`, given by id."""
        return {name: self.finished(run_id) for name, run_id in runs.items()}

    def stage(self, act: Callable[[], Mapping[str, Run]]) -> Stage:
        """Do something, and keep the records as they were before and as they are after."""
        before = self.documents()
        runs = act()
        return Stage(self, runs, before, self.documents())
