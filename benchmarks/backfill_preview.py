"""Compare the preview of a backfill with what it then takes: `python -m benchmarks.backfill_preview`.

Brings up the embedded stack with a real `airflow standalone`, or takes one that is up (`--running FOLDER`).
Nine daily windows hold different numbers of records. A backfill of the first four gives the ledgers to
estimate from. That of the others is previewed, run and compared. Then the same with `reclassify: all`.
Prints a table; with `--write` it also goes into docs/backfill-preview.md. Takes about ten minutes, in which
the machine should do nothing else.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine
from benchmarks.setting import adapters_with_champion, insert, picture_name, store_pictures
from mnist_ops.adapters.airflow_rest import AirflowRest, Json
from mnist_ops.adapters.mongo.connection import mongo_answers
from mnist_ops.domain.backfill_estimate import Amount, Estimate
from mnist_ops.domain.backfill_windows import DAG_ID, BackfillRequest
from mnist_ops.domain.keys import Generation, run_key
from mnist_ops.domain.quantities import NOTHING, byte_size, number, seconds
from mnist_ops.domain.selection import Reclassify
from mnist_ops.local import stack
from mnist_ops.local.airflow_server import Project
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST
from mnist_ops.pipeline import Pipeline
from mnist_ops.settings import Settings
from mnist_ops.steps.preview_backfill import BackfillPreview
from mnist_ops.wiring import Adapters, adapters_of_environment
from tests.support.servers import free_ports_of_a_stack

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "backfill-preview.md"
HEADING = "\n## Measured\n"
FIRST_DAY = datetime(2026, 3, 2, tzinfo=UTC)
KNOWN, PREVIEWED = (60, 250, 120, 320), (180, 90, 400, 0, 260)  # records of each day
ACTIVE_RUNS = 2
LONGEST_S = 900.0


@dataclass(frozen=True)
class Comparison:
    """What was previewed, and what was done then.

    Attributes:
        ledgers: of the backfill's runs.
        elapsed_s: from the start of its first run to the end of its last one.
    """

    preview: BackfillPreview
    ledgers: Sequence[Mapping[str, Any]]
    elapsed_s: float

    def rows(self) -> Iterator[str]:
        """The table's rows."""
        estimate = self.preview.estimate
        if estimate is None:
            raise RuntimeError("there are too few ledgers to estimate from")
        policy, taken = self.preview.request.reclassify, sum(ledger["selected"] for ledger in self.ledgers)
        counted = self.preview.records
        yield f"| {policy} | records | {counted:,} | {taken:,} | {taken - counted:+} |"
        for name, amount, done, form in self._quantities(estimate):
            difference = f"{done / amount.about - 1:+.0%}" if amount.about else NOTHING
            yield (
                f"| {policy} | {name} | {form(amount.about)} ({form(amount.low)} to {form(amount.high)}) "
                f"| {form(done)} | {difference} |"
            )

    def _quantities(self, estimate: Estimate) -> Iterator[tuple[str, Amount, float, Callable[[float], str]]]:
        ledgers = self.ledgers
        fetched = sum(ledger["stages"]["fetch"]["bytes"] for ledger in ledgers if ledger["selected"])
        requests = sum(sum(ledger["s3_requests"].values()) for ledger in ledgers)
        tasks = sum(stage["seconds"] for ledger in ledgers for stage in ledger["stages"].values())
        yield "image bytes", estimate.image_bytes, fetched, byte_size
        yield "sent to S3", estimate.s3_sent, sum(ledger["s3_sent"] for ledger in ledgers), byte_size
        received = sum(ledger["s3_received"] for ledger in ledgers)
        yield "received from S3", estimate.s3_received, received, byte_size
        yield "requests to S3", estimate.s3_requests, requests, lambda value: number(round(value))
        yield "time of tasks", _summed(estimate.stage_seconds.values()), tasks, seconds
        if estimate.elapsed_s is not None:
            yield "time", estimate.elapsed_s, self.elapsed_s, seconds
        cost = sum(ledger["cost"]["total"] for ledger in ledgers)
        yield f"cost, {estimate.currency}", estimate.cost, cost, lambda value: f"{value:.5f}"


def _summed(amounts: Iterable[Amount]) -> Amount:
    parts = list(amounts)
    return Amount(
        sum(part.about for part in parts), sum(part.low for part in parts), sum(part.high for part in parts)
    )


def store_windows(adapters: Adapters, images_url: str, images: Path) -> None:
    """Store the records of every window, with their pictures."""
    sizes = [*KNOWN, *PREVIEWED]
    store_pictures(images, sum(sizes), None)
    moments = (
        FIRST_DAY + timedelta(days=day, seconds=each)
        for day, size in enumerate(sizes)
        for each in range(size)
    )
    records = (
        {"_id": f"preview-{each:06d}", "image_url": f"{images_url}/{picture_name(each)}", "created_at": at}
        for each, at in enumerate(moments)
    )
    insert(adapters, records)


def run(airflow: AirflowRest, pipeline: Pipeline, preview: BackfillPreview) -> Comparison:
    """Run a previewed backfill to its end.

    Raises:
        RuntimeError: a run of it failed.
    """
    identity = int(str(airflow.call("POST", "/backfills", preview.document)["id"]))
    airflow.wait_for_backfill(identity, LONGEST_S)
    first, last = preview.windows[0].window.since, preview.windows[-1].window.since
    runs = airflow.backfill_runs(DAG_ID, first, last)
    states = [each["state"] for each in runs]
    if states != ["success"] * len(preview.windows):
        raise RuntimeError(f"the backfill's runs are {states}")
    starts, ends = (
        [datetime.fromisoformat(str(each[name])) for each in runs] for name in ("start_date", "end_date")
    )
    ledgers = [_ledger(pipeline, each) for each in runs]
    return Comparison(preview, ledgers, (max(ends) - min(starts)).total_seconds())


def _ledger(pipeline: Pipeline, run: Json) -> Mapping[str, Any]:
    key, store = run_key(DAG_ID, str(run["dag_run_id"])), pipeline.adapters.runs
    ledger = store.ledger(Generation(key, store.generations(key)[-1]))
    if ledger is None:
        raise RuntimeError(f"{key} has no ledger")
    return ledger


def measure(running: stack.Stack, layout: Layout, adapters: Adapters) -> str:
    """Make the records, run every backfill, and report."""
    store_windows(adapters, running.images_url, layout.images)
    airflow = AirflowRest(running.airflow_url, running.airflow_user, running.airflow_password)
    airflow.unpause(DAG_ID)
    airflow.wait(DAG_ID, airflow.first_run(DAG_ID, LONGEST_S), LONGEST_S)
    pipeline, between = Pipeline(adapters), FIRST_DAY + timedelta(days=len(KNOWN))
    end = between + timedelta(days=len(PREVIEWED))
    compared = []
    for policy in (Reclassify.NEVER, Reclassify.ALL):
        for since, until in ((FIRST_DAY, between), (between, end)):
            request = BackfillRequest(since, until, policy, max_active_runs=ACTIVE_RUNS)
            comparison = run(airflow, pipeline, pipeline.preview_backfill(request))
            print(f"{policy}: {since:%d %B} to {until:%d %B} in {comparison.elapsed_s:.0f} s", flush=True)
        compared.append(comparison)
    return report(compared)


def report(compared: Sequence[Comparison]) -> str:
    """The figures as Markdown."""
    return "\n".join(
        [
            HEADING,
            (
                f"`python -m benchmarks.backfill_preview` on {machine()}; a real `airflow standalone` on the "
                f"embedded stack, {ACTIVE_RUNS} runs at once. Previewed were windows of "
                f"{', '.join(map(str, PREVIEWED))} records, after a backfill of windows of "
                f"{', '.join(map(str, KNOWN))}."
            ),
            "",
            "| reclassify | quantity | preview | done | difference |",
            "|---|---|--:|--:|--:|",
            *(row for comparison in compared for row in comparison.rows()),
            "",
        ]
    )


def main() -> None:
    """Bring everything up unless it is, measure, and take down what was brought up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write into docs/backfill-preview.md")
    parser.add_argument("--running", type=Path, help="the folder of a stack that is up and has a champion")
    given = parser.parse_args()
    # So that what was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    table = _of_running(Layout(given.running)) if given.running else _of_own()
    print(table)
    if given.write:
        PAGE.write_text(PAGE.read_text().partition(HEADING)[0] + table)


def _of_running(layout: Layout) -> str:
    running = stack.load(layout)
    if running is None:
        raise RuntimeError(f"no stack is up in {layout.root}")
    return measure(running, layout, adapters_of_environment(Settings(local_dir=layout.root), {}))


def _of_own() -> str:
    with tempfile.TemporaryDirectory(prefix="mnist-ops-bench-") as folder:
        layout, ports = Layout(Path(folder)), free_ports_of_a_stack()
        settings = {"MNIST_OPS_ALLOWED_HOSTS": f"{HOST}:{ports.images}", "MNIST_OPS_WATCH": "false"}
        project = Project(ROOT / "dags", ROOT / "plugins", settings)
        running = stack.up(layout, ports, mongo_answers=mongo_answers, project=project, report_progress=print)
        try:
            return measure(running, layout, adapters_with_champion(layout.root))
        finally:
            stack.down(layout)


if __name__ == "__main__":
    main()
