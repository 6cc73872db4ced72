"""The demo: label records through real Airflow runs, and check every number."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from rich.console import Console

from mnist_ops.domain.ports import ModelRegistry, RegisteredModel, RunStore
from mnist_ops.local.demo_records import DAYS, DemoRecords, make_records

CLASSIFY, TRAIN = "classify_records", "train_lenet"
MINIMUM_ACCURACY = 0.97
# A third of the default: 98 % of the digits are read rightly instead of 99 %, half a minute earlier.
EPOCHS = 10
_RUN_TIMEOUT_S = 420.0
_MAXIMUM_DURATION = timedelta(minutes=5)


class Airflow(Protocol):
    """The calls to Airflow that the demo makes."""

    def unpause(self, dag_id: str) -> None:
        """Let a DAG be scheduled."""

    def trigger(self, dag_id: str, conf: Mapping[str, object] | None = None) -> str:
        """Start a manual run and return its run id."""

    def runs(self, dag_id: str) -> list[dict[str, object]]:
        """All runs of a DAG, oldest first."""

    def first_run(self, dag_id: str, timeout_s: float) -> str:
        """Wait until a DAG has a run and return the run id of its oldest."""

    def wait(self, dag_id: str, run_id: str, timeout_s: float) -> str:
        """Wait until a run has finished and return its state."""

    def backfill(self, dag_id: str, since: datetime, until: datetime, options: Mapping[str, object]) -> int:
        """Start a backfill and return its id."""

    def wait_for_backfill(self, backfill_id: int, timeout_s: float) -> None:
        """Wait until all runs of a backfill have finished."""


class Records(Protocol):
    """The calls to the records' collection that the demo makes."""

    def insert(self, *documents: Mapping[str, object]) -> None:
        """Add records."""

    def documents(self) -> list[dict[str, object]]:
        """All records."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the demo has measured.

    Attributes:
        ledgers: of all its classification runs, oldest first.
        model: the champion as registered.
        accuracy: of the predictions against the hidden truth, 0 to 1.
        complaints: what is wrong; empty when every number is right.
    """

    ledgers: Sequence[Mapping[str, object]]
    model: RegisteredModel | None
    accuracy: float
    complaints: Sequence[str]


@dataclass(slots=True)
class Demo:
    """Runs the demo.

    Args:
        airflow: runs the DAGs.
        records: the collection, empty.
        runs: the ledgers.
        models: the registry, empty.
        console: shows the progress.
    """

    airflow: Airflow
    records: Records
    runs: RunStore
    models: ModelRegistry
    console: Console
    complaints: list[str] = field(default_factory=list)

    def run(self, images_url: str, model_name: str) -> Result:
        """Run every part of the demo and check its numbers.

        Args:
            images_url: where the sample digits are served.
            model_name: the name that the model is released under.
        """
        self._avoid_midnight()
        now = datetime.now(UTC)
        made = make_records(images_url, now)
        with self._part(f"{len(made.labelled):,} records with a label from a person are stored"):
            self.records.insert(*made.labelled)
        with self._part(f"LeNet-5 is trained on them in {EPOCHS} epochs (30 are the default) and released"):
            self._train()
        broken = f"{len(made.failures)} of them are broken on purpose and must fail"
        with self._part(f"{len(made.waiting):,} records without a label are stored; {broken}"):
            self.records.insert(*made.waiting)
        with self._part(
            f"today's are classified by a run by hand, those of the {DAYS - 1} days before by a backfill"
        ):
            self._classify(now.replace(hour=0, minute=0, second=0, microsecond=0))
        with self._part("one more run finds nothing left to do"):
            before = self.records.documents()
            self._finish(CLASSIFY, self.airflow.trigger(CLASSIFY))
            self._require(before == self.records.documents(), "the last run changed records")
        return self._result(made, model_name)

    def _avoid_midnight(self) -> None:
        """Wait for midnight if it is near: the next daily run would disturb the demo and shift its days."""
        now = datetime.now(UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        if midnight - now < _MAXIMUM_DURATION:
            with self._part("waited for the day to change"):
                time.sleep((midnight - now).total_seconds() + 5)

    def _train(self) -> None:
        self.airflow.unpause(TRAIN)
        training = self.airflow.trigger(TRAIN, {"epochs": EPOCHS})
        # Unpausing causes a run at once, of all records before today: it has to end before they are stored.
        self.airflow.unpause(CLASSIFY)
        self._finish(CLASSIFY, self.airflow.first_run(CLASSIFY, _RUN_TIMEOUT_S))
        self._finish(TRAIN, training)

    def _classify(self, midnight: datetime) -> None:
        """Classify today's records by a manual run, and those of the days before by a backfill."""
        manual = self.airflow.trigger(CLASSIFY, {"since": midnight.isoformat()})
        backfill = self._start_backfill(midnight)
        self._finish(CLASSIFY, manual)
        self._finish_backfill(backfill)

    def _finish(self, dag_id: str, run_id: str) -> None:
        state = self.airflow.wait(dag_id, run_id, _RUN_TIMEOUT_S)
        self._require(state == "success", f"{dag_id} {run_id} ended as {state}")

    def _start_backfill(self, midnight: datetime) -> int:
        first, last = midnight - timedelta(days=DAYS - 1), midnight - timedelta(days=1)
        # The run that unpausing caused has yesterday's window: the backfill runs it again.
        options = {"reprocess_behavior": "completed", "max_active_runs": 2, "run_backwards": False}
        return self.airflow.backfill(CLASSIFY, first, last, {**options, "dag_run_conf": {}})

    def _finish_backfill(self, backfill_id: int) -> None:
        self.airflow.wait_for_backfill(backfill_id, _RUN_TIMEOUT_S)
        runs = [run for run in self.airflow.runs(CLASSIFY) if run["run_type"] == "backfill"]
        green = [run for run in runs if run["state"] == "success"]
        self._require(len(green) == DAYS - 1, f"{len(green)} backfill runs are green, expected {DAYS - 1}")

    def _result(self, made: DemoRecords, model_name: str) -> Result:
        ledgers = list(self.runs.ledgers(f"{CLASSIFY}/"))
        documents = {str(document["_id"]): document for document in self.records.documents()}
        accuracy = _accuracy(made.truth, documents)
        self._require(accuracy >= MINIMUM_ACCURACY, f"accuracy {accuracy:.4f}, expected {MINIMUM_ACCURACY}")
        self._check_failures(made, documents)
        self._check_ledgers(made, ledgers)
        touched = [one for one in made.labelled if documents[str(one["_id"])].keys() != one.keys()]
        self._require(not touched, f"{len(touched)} human-labelled records were changed")
        champion = self.models.champion(model_name)
        model = next((one for one in self.models.models(model_name) if one.bundle == champion), None)
        self._require(model is not None, f"no {model_name} is champion")
        return Result(ledgers, model, accuracy, self.complaints)

    def _check_failures(self, made: DemoRecords, documents: Mapping[str, Mapping[str, object]]) -> None:
        for record_id, reason in made.failures.items():
            failure = documents[record_id].get("prediction_failure")
            found = failure.get("reason") if isinstance(failure, Mapping) else None
            self._require(found == reason, f"{record_id} ended as {found}, expected {reason}")

    def _check_ledgers(self, made: DemoRecords, ledgers: Sequence[Mapping[str, object]]) -> None:
        outcomes = total(ledgers, "outcomes")
        expected = {"predicted": len(made.truth), "quarantined": len(made.failures)}
        found = {outcome: count for outcome, count in outcomes.items() if count}
        self._require(found == expected, f"the ledgers count {found}, expected {expected}")
        reasons = Counter(str(reason) for reason in made.failures.values())
        self._require(total(ledgers, "reasons") == reasons, "the ledgers count other reasons than expected")
        for ledger in ledgers:
            self._require(ledger["imbalance"] is None, f"{ledger['_id']}: {ledger['imbalance']}")

    def _require(self, holds: bool, complaint: str) -> None:
        if not holds:
            self.console.print(f"[red]WRONG[/red] {complaint}", highlight=False)
            self.complaints.append(complaint)

    @contextmanager
    def _part(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        with self.console.status(what):
            yield
        self.console.print(f"{time.monotonic() - started:6.1f} s  {what}", highlight=False, soft_wrap=True)


def _accuracy(truth: Mapping[str, int], documents: Mapping[str, Mapping[str, object]]) -> float:
    correct = 0
    for record_id, index in truth.items():
        prediction = documents[record_id].get("prediction")
        correct += isinstance(prediction, Mapping) and prediction.get("index") == index
    return correct / len(truth)


def total(ledgers: Sequence[Mapping[str, object]], name: str) -> Counter[str]:
    """Sum one kind of counts over ledgers."""
    counts: Counter[str] = Counter()
    for ledger in ledgers:
        counted = ledger[name]
        if isinstance(counted, Mapping):
            counts.update(counted)
    return counts
