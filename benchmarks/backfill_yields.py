"""Measure how much a backfill delays scheduled runs: `python -m benchmarks.backfill_yields`.

Brings up the embedded stack with a real `airflow standalone`, in which `classify_records` is due every 20
seconds; before each a website leaves 200 new records. The seconds from due to done are taken of runs that
have Airflow for themselves, then of runs while a backfill of 20 windows, with Airflow's own limit of ten runs
at a time, is under way. Prints a table; with `--write` it also goes into docs/backfill-yields.md. Takes about
six minutes, in which the machine should do nothing else.
"""

import argparse
import itertools
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.airflow_runs import CLASSIFY, gaps_s, spread, tasks_of
from benchmarks.measuring import machine
from benchmarks.setting import adapters_with_champion, picture_name, store_pictures
from mnist_ops.adapters.airflow_rest import FINISHED, AirflowRest, Json
from mnist_ops.adapters.mongo.connection import mongo_answers
from mnist_ops.local import stack
from mnist_ops.local.airflow_server import WORKERS, Project
from mnist_ops.local.layout import Layout
from mnist_ops.local.parts import POOLS
from mnist_ops.local.ports import HOST
from mnist_ops.wiring import Adapters
from tests.support.servers import free_ports_of_a_stack

ROOT = Path(__file__).parents[1]
EVERY = timedelta(seconds=20)
WINDOWS, OF_A_WINDOW = 20, 300
RUNS, OF_A_RUN = 6, 200
BEFORE_DUE = timedelta(seconds=4)
LONGEST_S = 120.0
MOST_GROWTH = 0.30


@dataclass(frozen=True)
class Live:
    """A scheduled run: seconds from due to done, and those between a part's tasks."""

    seconds: float
    gaps_s: Sequence[float]


@dataclass(frozen=True)
class Website:
    """What leaves records: its adapters, the address of its pictures, and the numbers of its records."""

    adapters: Adapters
    images_url: str
    numbers: "itertools.count[int]"

    def leave(self, count: int, created_at: datetime) -> None:
        """Store records that are created at one moment."""
        self.adapters.records.insert(
            *(
                {
                    "_id": f"{number:06d}",
                    "image_url": f"{self.images_url}/{picture_name(number % OF_A_WINDOW)}",
                    "created_at": created_at,
                }
                for number in itertools.islice(self.numbers, count)
            )
        )


def scheduled(airflow: AirflowRest) -> list[Json]:
    """The runs of the schedule."""
    return [run for run in airflow.runs(CLASSIFY) if run["run_type"] == "scheduled"]


def wake(airflow: AirflowRest) -> None:
    """Unpause, and wait until what was due before has labelled the windows' records."""
    airflow.unpause(CLASSIFY)
    deadline = time.monotonic() + LONGEST_S
    while not (runs := scheduled(airflow)) or not all(run["state"] in FINISHED for run in runs):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not idle after {LONGEST_S:.0f} s: {runs}")
        time.sleep(1.0)


def next_due() -> datetime:
    """When the schedule is due next, with time enough to leave records before."""
    soonest = datetime.now(UTC) + BEFORE_DUE
    seconds = soonest.timestamp() // EVERY.total_seconds() * EVERY.total_seconds()
    return datetime.fromtimestamp(seconds, UTC) + EVERY


def live_run(airflow: AirflowRest, website: Website) -> Live:
    """Leave records, and follow the scheduled run that takes them."""
    due = next_due()
    time.sleep((due - BEFORE_DUE - datetime.now(UTC)).total_seconds())
    website.leave(OF_A_RUN, datetime.now(UTC))
    time.sleep((due - datetime.now(UTC)).total_seconds() + 5)
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        for run in scheduled(airflow):
            if datetime.fromisoformat(str(run["run_after"])) == due and run["state"] in FINISHED:
                return looked_at(airflow, run, due)
        # Asking costs the same cores.
        time.sleep(2.0)
    raise RuntimeError(f"the run due at {due} is not done after {LONGEST_S:.0f} s")


def looked_at(airflow: AirflowRest, run: Json, due: datetime) -> Live:
    """A finished run.

    Raises:
        RuntimeError: it failed.
    """
    if run["state"] != "success":
        raise RuntimeError(f"{run['dag_run_id']} ended as {run['state']}")
    seconds = (datetime.fromisoformat(str(run["end_date"])) - due).total_seconds()
    return Live(seconds, gaps_s(tasks_of(airflow, str(run["dag_run_id"]))))


def beside_backfill(
    airflow: AirflowRest, website: Website, first: datetime, runs: int
) -> tuple[list[Live], int]:
    """Runs of the schedule while a backfill goes on, and how many of its runs were done by then.

    A run after whose end the backfill had nothing left to do does not count.
    """
    options = {
        "reprocess_behavior": "none",
        "run_backwards": False,
        "max_active_runs": 10,
        "dag_run_conf": {"reclassify": "all"},
    }
    last = first + EVERY * (WINDOWS - 1)
    airflow.backfill(CLASSIFY, first, last, options)
    lives: list[Live] = []
    done = 0
    while len(lives) < runs:
        live = live_run(airflow, website)
        states = [run["state"] for run in airflow.backfill_runs(CLASSIFY, first, last)]
        print(
            f"  {live.seconds:5.1f} s, {states.count('success')} of {len(states)} windows are done",
            flush=True,
        )
        if len(states) != WINDOWS or "failed" in states:
            raise RuntimeError(f"the backfill's runs are {states}")
        if states.count("success") == WINDOWS:
            break
        done = states.count("success")
        lives.append(live)
    return lives, done


def measure(running: stack.Stack, layout: Layout, runs: int) -> str:
    """Make records and a champion, measure, and report."""
    adapters = adapters_with_champion(layout.root)
    website = Website(adapters, running.images_url, itertools.count())
    first = next_due() - timedelta(days=2)
    for number in range(WINDOWS):
        website.leave(OF_A_WINDOW, first + EVERY * (number + 0.5))
    airflow = AirflowRest(running.airflow_url, running.airflow_user, running.airflow_password)
    wake(airflow)
    print("scheduled runs alone", flush=True)
    alone = []
    for _ in range(runs):
        alone.append(live_run(airflow, website))
        print(f"  {alone[-1].seconds:5.1f} s", flush=True)
    print("scheduled runs beside a backfill", flush=True)
    beside, done = beside_backfill(airflow, website, first, runs)
    waiting = [one for one in adapters.records.documents() if "prediction" not in one]
    return report(alone, beside, done, len(waiting))


def report(alone: Sequence[Live], beside: Sequence[Live], done: int, waiting: int) -> str:
    """The figures as Markdown."""
    if not beside:
        raise RuntimeError("the backfill was over before a scheduled run was: nothing was measured")
    medians = [statistics.median(live.seconds for live in lives) for lives in (alone, beside)]
    growth = medians[1] / medians[0] - 1
    rows = [
        f"| {name} | {len(lives)} | {spread([live.seconds for live in lives])} "
        f"| {spread([gap for live in lives for gap in live.gaps_s])} |"
        for name, lives in (("alone", alone), (f"beside a backfill of {WINDOWS} windows", beside))
    ]
    return "\n".join(
        [
            "# Backfills yield to live runs",
            "",
            (
                f"`python -m benchmarks.backfill_yields` on {machine()}; the servers share the cores. A real "
                f"`airflow standalone` on the embedded stack: {WORKERS} tasks at a time, of which a backfill "
                f"may have {POOLS['backfill']}. A scheduled run labels {OF_A_RUN} records; the backfill "
                f"classifies {OF_A_WINDOW} again in each of its windows, up to ten windows at a time."
            ),
            "",
            "| scheduled runs | runs | from due to done | from a part's fetch to its classify |",
            "|---|---|---|---|",
            *rows,
            "",
            (
                f"The median from due to done grows by {growth:.0%} (the limit is {MOST_GROWTH:.0%}). "
                f"Of the {WINDOWS} windows {done} were done by the end of the last run; "
                f"{waiting} records were left without a prediction."
            ),
            "",
        ]
    )


def main() -> None:
    """Bring everything up, measure, and take it down again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/backfill-yields.md")
    parser.add_argument(
        "--option", action="append", default=[], help="of Airflow, such as SCHEDULER__MAX_TIS_PER_QUERY=32"
    )
    parser.add_argument("--runs", type=int, default=RUNS, help="scheduled runs of each kind")
    given = parser.parse_args()
    # So that what was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="mnist-ops-bench-") as folder:
        layout, ports = Layout(Path(folder)), free_ports_of_a_stack()
        store_pictures(layout.images, OF_A_WINDOW, None)
        settings = {
            "MNIST_OPS_ALLOWED_HOSTS": f"{HOST}:{ports.images}",
            "MNIST_OPS_CLASSIFY_SCHEDULE": f"* * * * * */{EVERY.seconds}",
            "MNIST_OPS_THREADS": "1",
        }
        options = dict(option.split("=", 1) for option in given.option)
        project = Project(ROOT / "dags", ROOT / "plugins", settings, options)
        running = stack.up(layout, ports, mongo_answers=mongo_answers, project=project, report_progress=print)
        try:
            table = measure(running, layout, given.runs)
        finally:
            stack.down(layout)
    print(table)
    if given.write:
        (ROOT / "docs" / "backfill-yields.md").write_text(table)


if __name__ == "__main__":
    main()
