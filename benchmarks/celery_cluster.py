"""Label 20,000 records on a cluster of Celery workers, one of which is killed: see the arguments with --help.

Brings up, as processes of this machine: Redis (Debian's redis-server), PostgreSQL, MongoDB's protocol, S3, an
image server; Airflow's API server, scheduler, DAG processor and triggerer; two workers of the queue
`default` and one of `gpu`. Then `classify_records` runs three times over the same records:

1. while one worker is killed in the middle, with all it has running (SIGKILL): every record must end
   labelled, once, and the ledger must add up;
2. with two workers, undisturbed, and 3. with one: how many records a second.

Prints a report; with `--write` it also goes into docs/celery.md. Exits with 1 where something is wrong.
Takes about ten minutes, and ends all that it has started.
"""

import argparse
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.airflow_runs import CLASSIFY, Task, gaps_s, spread, tasks_of
from benchmarks.measuring import machine
from benchmarks.setting import adapters_with_champion, insert, picture_name, store_pictures
from mnist_ops.adapters.airflow_rest import FINISHED, AirflowRest
from mnist_ops.adapters.mongo.connection import mongo_answers
from mnist_ops.domain.keys import run_key
from mnist_ops.local import airflow_server, postgres, processes, stack
from mnist_ops.local.airflow_server import Project
from mnist_ops.local.credentials import load_or_create
from mnist_ops.local.layout import Layout
from mnist_ops.local.parts import POOLS
from mnist_ops.local.ports import HOST
from mnist_ops.local.readiness import wait_until_ready
from mnist_ops.wiring import Adapters
from tests.support.servers import first_free_port, free_ports_of_a_stack

ROOT = Path(__file__).parents[1]
PLACES = 2  # tasks at a time, a worker
DEFAULT_WORKERS = ("default-1", "default-2")
DEAD_AFTER_S = 40
LONGEST_RUN_S = 400.0
_PARTS = ("mongo", "s3", "images", "postgres")


@dataclass
class Cluster:
    """Airflow's processes, started and stopped one by one.

    Attributes:
        layout: where their logs and process ids are kept.
        environment: of each of them.
        airflow: the program.
    """

    layout: Layout
    environment: Mapping[str, str]
    airflow: str
    running: dict[str, processes.Running] = field(default_factory=dict)

    def start(self, name: str, *command: str, **environment: str) -> None:
        """Start a process in a session of its own."""
        log = self.layout.log(name)
        process = processes.start(
            command, environment={**self.environment, **environment}, folder=self.layout.root, log=log
        )
        self.running[name] = processes.remember(self.layout.pid_file(name), process.pid)

    def component(self, *command: str) -> None:
        """Start a part of Airflow that there is once."""
        self.start(command[0], self.airflow, *command)

    def worker(self, name: str, queue: str, places: int) -> None:
        """Start a worker; it listens nowhere, since the API server reads its logs from the same disk."""
        options = ("--queues", queue, "--celery-hostname", f"{name}@%h", "--concurrency", str(places))
        self.start(name, self.airflow, "celery", "worker", "--skip-serve-logs", *options)

    def ready(self, names: Sequence[str]) -> None:
        """Wait until these workers take tasks.

        Raises:
            RuntimeError: one has ended.
        """
        for name in names:
            self.wait(name, lambda name=name: None if self._says_ready(name) else "its queue")

    def _says_ready(self, name: str) -> bool:
        return "ready." in self.layout.log(name).read_text(encoding="utf-8", errors="replace")

    def wait(self, name: str, missing: Callable[[], str | None]) -> None:
        """Wait until a process answers."""

        def alive() -> None:
            if not processes.is_alive(self.running[name]):
                raise RuntimeError(f"{name} ended:\n{processes.last_lines(self.layout.log(name), 40)}")

        wait_until_ready(name, missing, timeout_s=300.0, check=alive, report_progress=say)

    def kill(self, name: str) -> int:
        """Kill a worker and all that it has started, as the kernel would; how many processes."""
        killed = processes.members(self.running.pop(name), home=self.layout.root)
        for process in killed:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        return len(killed)

    def stop(self, *names: str) -> None:
        """Ask processes to end, and kill them where they do not."""
        for name in names:
            processes.stop(self.running.pop(name), home=self.layout.root, grace=20.0)


def say(line: str) -> None:
    """Show a line of progress."""
    print(line, flush=True)


@contextmanager
def cluster(layout: Layout, redis: str, given: argparse.Namespace) -> Iterator[tuple[Cluster, stack.Stack]]:
    """Bring everything up, and take it down again, whatever happens."""
    ports, redis_port = free_ports_of_a_stack(), given.redis_port or first_free_port(1)
    settings = {
        "MNIST_OPS_ALLOWED_HOSTS": f"{HOST}:{ports.images}",
        "MNIST_OPS_RECORDS_PER_PART": str(given.part),
        "MNIST_OPS_THREADS": "1",
    }
    running = stack.up(layout, ports, mongo_answers=mongo_answers, parts=_PARTS, report_progress=say)
    metadata = postgres.start(layout)
    broker = f"redis://{HOST}:{redis_port}/0"
    project = Project(ROOT / "dags", ROOT / "plugins", settings, options_of(metadata, broker))
    for name in ("airflow", *DEFAULT_WORKERS):
        layout.data(name).mkdir(parents=True, exist_ok=True)
    service = airflow_server.service(
        layout,
        ports,
        load_or_create(layout),
        project=project,
        connections=running.connections,
        metadata_uri=metadata,
    )
    made = Cluster(layout, service.environment, service.command[0])
    try:
        migrate = subprocess.run(
            [made.airflow, "db", "migrate"], env=dict(made.environment), capture_output=True, check=False
        )
        if migrate.returncode:
            raise RuntimeError(f"airflow db migrate failed:\n{migrate.stderr.decode()[-4000:]}")
        start_all(made, redis, redis_port, layout)
        made.wait("api-server", airflow_server.probe(ports))
        airflow_server.create_pools(ports, load_or_create(layout), POOLS)
        made.ready((*DEFAULT_WORKERS, "gpu"))
        yield made, running
    finally:
        # The broker last: workers that lose it wait for it.
        made.stop(*[name for name in made.running if name != "redis"])
        made.stop(*made.running)
        stack.down(layout, report_progress=say)


def options_of(metadata_uri: str, broker: str) -> dict[str, str]:
    """Airflow's options; those that production needs too are in docker-compose.yaml."""
    return {
        "CORE__EXECUTOR": "CeleryExecutor",
        # As many as the workers have places: what waits in the broker is lost with its worker's reservation.
        "CORE__PARALLELISM": str(PLACES * len(DEFAULT_WORKERS) + 1),
        "CELERY__BROKER_URL": broker,
        "CELERY__RESULT_BACKEND": f"db+{metadata_uri}",
        "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",
        "CELERY__CELERY_CONFIG_OPTIONS": "mnist_airflow.celery_config.CONFIG",
        "OPERATORS__DEFAULT_QUEUE": "default",
        # Tasks say every 5 s that they live. Short, so that the benchmark is: compose has 120 s.
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(DEAD_AFTER_S),
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
        "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "15",
    }


def start_all(made: Cluster, redis: str, redis_port: int, layout: Layout) -> None:
    """Start the broker, Airflow's parts and the workers, all at once."""
    listen = ("--port", str(redis_port), "--bind", HOST, "--save", "", "--appendonly", "no")
    made.start("redis", redis, *listen, "--dir", str(layout.root))
    made.component("api-server")
    made.component("scheduler", "--skip-serve-logs")
    made.component("dag-processor")
    made.component("triggerer", "--skip-serve-logs")
    for name in DEFAULT_WORKERS:
        made.worker(name, "default", PLACES)
    made.worker("gpu", "gpu", 1)


@dataclass(frozen=True)
class Finished:
    """A run that has ended.

    Attributes:
        id: what Airflow calls it.
        state: how it ended.
        seconds: from its start to its end.
        tasks: in the order of their starts.
        queues: that its tasks were sent to.
    """

    id: str
    state: str
    seconds: float
    tasks: Sequence[Task]
    queues: frozenset[str]


def run(airflow: AirflowRest, conf: Mapping[str, object], watch: Callable[[str], None]) -> Finished:
    """Run `classify_records` by hand to its end; `watch` is called with the run's id every second or so."""
    run_id = airflow.trigger(CLASSIFY, conf)
    deadline = time.monotonic() + LONGEST_RUN_S
    while (facts := airflow.run(CLASSIFY, run_id))["state"] not in FINISHED:
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"{run_id} is not done after {LONGEST_RUN_S:.0f} s: {tasks_of(airflow, run_id)}"
            )
        watch(run_id)
        time.sleep(1.5)
    start, end = (datetime.fromisoformat(str(facts[name])) for name in ("start_date", "end_date"))
    tasks = tasks_of(airflow, run_id)
    queues = frozenset(task.queue for task in tasks)
    return Finished(run_id, str(facts["state"]), (end - start).total_seconds(), tasks, queues)


@dataclass
class Killer:
    """Kills a worker once a third of the parts is classified and every worker is at work.

    Attributes:
        airflow: is asked how far the run is.
        made: the cluster.
        parts: of the run.
        killed_at: when; None before.
        lost: what ran at that moment, on either worker.
    """

    airflow: AirflowRest
    made: Cluster
    parts: int
    killed_at: datetime | None = None
    processes: int = 0

    def __call__(self, run_id: str) -> None:
        """Look at the run, and kill if it is time."""
        if self.killed_at is not None:
            return
        tasks = tasks_of(self.airflow, run_id)
        done = sum(task.name == "part.classify" and task.state == "success" for task in tasks)
        at_work = sum(task.state == "running" for task in tasks)
        # More at work than one worker has places for, so that the other one has some.
        if done >= self.parts // 3 and at_work > PLACES:
            self.killed_at = datetime.now(UTC)
            self.processes = self.made.kill(DEFAULT_WORKERS[1])
            say(f"killed {DEFAULT_WORKERS[1]}: {self.processes} processes, {at_work} tasks at work in all")


def store(adapters: Adapters, images_url: str, count: int) -> None:
    """Store records, created now."""
    now = datetime.now(UTC)
    records = (
        {"_id": f"{number:06d}", "image_url": f"{images_url}/{picture_name(number)}", "created_at": now}
        for number in range(count)
    )
    insert(adapters, records)


def complaints(adapters: Adapters, finished: Finished, count: int) -> list[str]:
    """What is wrong after the run with a killed worker; nothing, if all is well."""
    (ledger,) = adapters.runs.ledgers(f"{run_key(CLASSIFY, finished.id)}/")
    outcomes = {name: number for name, number in ledger["outcomes"].items() if number}  # type: ignore[attr-defined]
    documents = adapters.records.documents()
    runs = Counter(str((one.get("prediction") or {}).get("run")) for one in documents)  # type: ignore[attr-defined]
    checks = {
        f"the run ended as {finished.state}": finished.state == "success",
        f"the ledger has {ledger['selected']} records selected": ledger["selected"] == count,
        f"the ledger's outcomes are {outcomes}": outcomes == {"predicted": count},
        f"the ledger does not add up: {ledger['imbalance']}": ledger["imbalance"] is None,
        f"{len(documents)} records are there": len(documents) == count,
        f"the predictions are of the runs {dict(runs)}": runs == {run_key(CLASSIFY, finished.id): count},
        "records were labelled twice": not any("prediction_history" in one for one in documents),
        f"tasks ran on the queues {set(finished.queues)}": finished.queues == {"default"},
        "no task was tried again: the kill hit nothing": any(task.tries > 1 for task in finished.tasks),
    }
    return [what for what, holds in checks.items() if not holds]


def measure(made: Cluster, running: stack.Stack, given: argparse.Namespace) -> tuple[str, list[str]]:
    """The three runs; returns the report, and what is wrong."""
    adapters = adapters_with_champion(made.layout.root)
    airflow = AirflowRest(running.airflow_url, running.airflow_user, running.airflow_password)
    airflow.unpause(CLASSIFY)
    # What is due finds nothing, and shows that the workers work.
    first = run(airflow, {}, lambda _: None)
    say(f"an empty run took {first.seconds:.1f} s")
    store(adapters, running.images_url, given.records)

    killer = Killer(airflow, made, -(-given.records // given.part))
    killed = run(airflow, {}, killer)
    say(f"with a killed worker: {killed.state} after {killed.seconds:.1f} s")
    wrong = complaints(adapters, killed, given.records)
    if killer.killed_at is None:
        wrong.append("the run was over before a worker could be killed")

    made.worker("default-3", "default", PLACES)
    made.ready(["default-3"])
    two = run(airflow, {"reclassify": "all"}, lambda _: None)
    say(f"two workers: {two.state} after {two.seconds:.1f} s")
    made.stop("default-3")
    one = run(airflow, {"reclassify": "all"}, lambda _: None)
    say(f"one worker: {one.state} after {one.seconds:.1f} s")
    wrong += [f"an undisturbed run ended as {each.state}" for each in (two, one) if each.state != "success"]
    return report(killer, killed, two, one, given), wrong


def report(killer: Killer, killed: Finished, two: Finished, one: Finished, given: argparse.Namespace) -> str:
    """The figures as Markdown."""
    rows = [
        f"| {name} | {each.seconds:.0f} | {given.records / each.seconds:,.0f} | {len(each.tasks)} "
        f"| {spread(gaps_s(each.tasks))} |"
        for name, each in (("two, one killed in the middle", killed), ("two", two), ("one", one))
    ]
    again = [
        f"| `{task.name}` | {task.part if task.part >= 0 else ''} | {task.tries} | {task.state} |"
        for task in killed.tasks
        if task.tries > 1 or task.state != "success"
    ]
    publishing_s = statistics.median(
        (task.end - task.start).total_seconds() for task in two.tasks if task.end and task.name == "publish"
    )
    return "\n".join(
        [
            "# Many workers",
            "",
            (
                f"`python -m benchmarks.celery_cluster` on {machine()}. CeleryExecutor with Redis and the "
                f"embedded PostgreSQL; every worker runs {PLACES} tasks at a time, and scheduler, API "
                f"server, databases, S3 and the image server share the same {psutil.cpu_count()} cores. "
                f"{given.records:,} records in parts of {given.part:,}, to predictions in MongoDB (the "
                "embedded one takes about 1,000 updates a second, from any number of workers)."
            ),
            "",
            "| workers | seconds | records/s | tasks | from a part's fetch to its classify |",
            "|---|---|---|---|---|",
            *rows,
            "",
            (
                f"Two undisturbed workers are {one.seconds / two.seconds:.2f} times as fast as one. From a "
                "part's fetch to its classify it mostly waits for a free worker: all parts are fetched "
                f"first. Publishing a part takes {publishing_s:.1f} s (median, two workers)."
            ),
            "",
            (
                f"The killed worker ({killer.processes} processes, SIGKILL) was detected after at most "
                f"{DEAD_AFTER_S} s without a heartbeat. In the end all {given.records:,} records were "
                "labelled, each once, and the ledger added up. These tasks were retried:"
            ),
            "",
            "| task | part | tries | state |",
            "|---|---|---|---|",
            *again,
            "",
        ]
    )


def main() -> None:
    """Bring everything up, measure, and take it down again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write docs/celery.md")
    parser.add_argument("--records", type=int, default=20_000, help="how many records")
    parser.add_argument("--part", type=int, default=2_000, help="records a part")
    parser.add_argument("--redis-port", type=int, help="of the broker; by default a free one")
    given = parser.parse_args()
    redis = shutil.which("redis-server")
    if redis is None:
        sys.exit("there is no redis-server: install it (Debian, Ubuntu: apt-get install redis-server)")
    # So that what was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="mnist-ops-celery-") as folder:
        layout = Layout(Path(folder))
        store_pictures(layout.images, given.records, None)
        with cluster(layout, redis, given) as (made, running):
            text, wrong = measure(made, running, given)
    print(text)
    for what in wrong:
        print(f"WRONG: {what}")
    if given.write and not wrong:
        (ROOT / "docs" / "celery.md").write_text(text, encoding="utf-8")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
