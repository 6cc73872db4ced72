"""From a record's insert to its prediction: 20 single inserts, and a burst of 1,000.

Needs a running embedded stack with a champion and `MNIST_OPS_WATCH` left true (`make up`, then
`mnist-ops runs train`), and takes 10 minutes:

    .venv/bin/python -m benchmarks.insert_to_label

With `--without-airflow` it measures `mnist-ops watch` instead, which it starts and stops.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from benchmarks.airflow_runs import CLASSIFY, tasks_of
from benchmarks.measuring import machine
from mnist_ops.adapters.airflow_rest import AirflowRest
from mnist_ops.adapters.mongo.records import MongoRecords
from mnist_ops.connections import read_stack, stack_file
from mnist_ops.local.airflow_server import USER
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST
from mnist_ops.settings import settings_of
from mnist_ops.wiring import adapters_of_environment

_LOOK_EVERY_S = 0.05
_TIMEOUT_S = 180.0
# The start of the watch and its first look are no part of an insert's time.
_STARTS_IN_S = 8.0


def insert(records: MongoRecords, images: str, names: Sequence[str]) -> None:
    """Insert a record for each name, one after the other, as a website would."""
    for number, name in enumerate(names):
        url = f"{images}/test/{number % 1_000:05d}.png"
        records.insert(
            {"_id": name, "image_url": url, "created_at": datetime.now(UTC)},
        )


def predicted(records: MongoRecords, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """Wait until every record has a prediction; the predictions by name."""
    ids = [json.dumps(name) for name in names]
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        heads = records.heads(ids)
        found = {str(head.id): head.prediction for head in heads.values() if head.prediction is not None}
        if len(found) == len(names):
            return found
        time.sleep(_LOOK_EVERY_S)
    raise TimeoutError(f"no prediction after {_TIMEOUT_S:.0f} s")


def singles(
    records: MongoRecords, images: str, count: int, pause_s: float
) -> list[tuple[datetime, float, str]]:
    """Single inserts: when each was, the seconds to its prediction, and the key of the run that made it."""
    found = []
    for number in range(count):
        name = f"single-{time.time_ns()}"
        inserted, started = datetime.now(UTC), time.monotonic()
        insert(records, images, [name])
        prediction = predicted(records, [name])[name]
        seconds = time.monotonic() - started
        found.append((inserted, seconds, str(prediction["run"])))
        print(f"insert {number + 1:2d} of {count}: {seconds:5.2f} s", flush=True)
        # Not in step with the interval between events.
        time.sleep(pause_s * (0.5 + number / count))
    return found


def stages_of(airflow: AirflowRest, inserted: datetime, run_key: str) -> dict[str, float]:
    """Seconds from the insert to each stage of the run that predicted it."""
    run_id = unquote(run_key.partition("/")[2])
    quoted = run_key.partition("/")[2]
    events: Any = airflow.call("GET", f"/dags/{CLASSIFY}/dagRuns/{quoted}/upstreamAssetEvents")[
        "asset_events"
    ]
    run = airflow.run(CLASSIFY, run_id)
    moments = {
        "event": events[-1]["timestamp"],
        "run created": run["queued_at"],
        "run started": run["start_date"],
    }
    found = {name: datetime.fromisoformat(str(moment)) for name, moment in moments.items()}
    for task in tasks_of(airflow, run_id):
        found[f"{task.name} begins"] = task.start
        if task.end is not None:
            found[f"{task.name} ended"] = task.end
    return {name: (moment - inserted).total_seconds() for name, moment in found.items()}


def show(seconds: Sequence[float], what: str) -> None:
    """The median and the 95th percentile."""
    ordered = sorted(seconds)
    p95 = ordered[max(0, -(-95 * len(ordered) // 100) - 1)]
    print(
        f"{what:28} p50 {statistics.median(ordered):6.2f} s  p95 {p95:6.2f} s  longest {ordered[-1]:6.2f} s"
    )


def burst(records: MongoRecords, images: str, count: int) -> None:
    """Insert many records one by one, and count the runs that predict them."""
    names = [f"burst-{time.time_ns()}-{number}" for number in range(count)]
    started = time.monotonic()
    insert(records, images, names)
    inserted = time.monotonic()
    runs = {str(one["run"]) for one in predicted(records, names).values()}
    ended = time.monotonic()
    print(
        f"{count:,} inserts in {inserted - started:.1f} s: {len(runs)} runs, the last prediction "
        f"{ended - inserted:.1f} s after the last insert"
    )


def with_airflow(records: MongoRecords, images: str, options: argparse.Namespace, layout: Layout) -> None:
    """Measure the DAG."""
    ports = read_stack(stack_file(layout.root), "ports")
    passwords = json.loads(layout.airflow_passwords_file.read_text(encoding="utf-8"))
    airflow = AirflowRest(f"http://{HOST}:{ports['airflow']}", USER, passwords[USER])
    airflow.unpause(CLASSIFY)
    time.sleep(options.pause)
    found = singles(records, images, options.inserts, options.pause)
    stages = [stages_of(airflow, inserted, run) for inserted, _, run in found]
    for name in max(stages, key=len):
        show([one[name] for one in stages if name in one], name)
    show([seconds for _, seconds, _ in found], "insert to prediction")
    runs = len(airflow.runs(CLASSIFY))
    burst(records, images, options.burst)
    time.sleep(options.pause)
    print(f"Airflow made {len(airflow.runs(CLASSIFY)) - runs} runs for the burst")


@contextmanager
def watcher() -> Iterator[None]:
    """`mnist-ops watch`, running."""
    process = subprocess.Popen([sys.executable, "-m", "mnist_ops", "watch"], env=os.environ.copy())
    try:
        time.sleep(_STARTS_IN_S)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        print(f"the watch ended with {process.wait(60)}")


def without_airflow(records: MongoRecords, images: str, options: argparse.Namespace) -> None:
    """Measure `mnist-ops watch`."""
    with watcher():
        found = singles(records, images, options.inserts, options.pause)
        show([seconds for _, seconds, _ in found], "insert to prediction")
        burst(records, images, options.burst)


def main() -> None:
    """Measure on the running stack, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inserts", type=int, default=20)
    parser.add_argument("--pause", type=float, default=12.0, help="seconds between two inserts, on average")
    parser.add_argument("--burst", type=int, default=1_000)
    parser.add_argument("--without-airflow", action="store_true")
    options = parser.parse_args()
    settings = settings_of(os.environ)
    records = adapters_of_environment(settings, os.environ).records
    images = f"http://{HOST}:{read_stack(stack_file(settings.local_dir), 'ports')['images']}"
    print(machine())
    if options.without_airflow:
        without_airflow(records, images, options)
    else:
        with_airflow(records, images, options, Layout(settings.local_dir))


if __name__ == "__main__":
    main()
