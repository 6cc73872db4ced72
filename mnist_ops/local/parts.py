"""Starts, stops and probes single parts of the embedded stack."""

import threading
import time
from dataclasses import dataclass, field
from types import MappingProxyType

from mnist_ops.domain.errors import Permanent, UsageError
from mnist_ops.local import airflow_server, database, image_server, object_store, postgres, processes
from mnist_ops.local.airflow_server import Project
from mnist_ops.local.credentials import Credentials
from mnist_ops.local.database import MongoAnswers
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import Ports
from mnist_ops.local.readiness import Probe, ReportProgress, wait_until_ready
from mnist_ops.local.service import Service
from mnist_ops.local.state import Stack

PARTS = (database.NAME, object_store.NAME, image_server.NAME, postgres.NAME, airflow_server.NAME)

# A training has the GPU to itself; a task in a pool that does not exist is never scheduled. Backfills have
# fewer slots than Airflow has workers, so that a live run always finds a worker: one slot, which leaves a
# second core to live runs.
POOLS = MappingProxyType({"gpu": 1, "backfill": 1})

# From the first signal to the kill.
_GRACE_S = 20.0


@dataclass(frozen=True, slots=True)
class PartStatus:
    """The state of one part.

    Attributes:
        name: which part.
        pid: of its first process; None where it does not run.
        memory_bytes: the sum of its processes' resident memory; shared pages count once a process.
        missing: what is missing, in words; None where it answers in its own protocol.
    """

    name: str
    pid: int | None
    memory_bytes: int
    missing: str | None


@dataclass(frozen=True, slots=True)
class Starter:
    """Starts single parts of one stack.

    Attributes:
        layout: where the stack lives.
        stack: how it will be reached.
        credentials: its secrets.
        project: what Airflow runs; None where Airflow is not wanted.
        mongo_answers: whether a MongoDB server answers.
        report_progress: shows a line of progress.
        cancelled: set when another part failed, so that waiting has become pointless.
    """

    layout: Layout
    stack: Stack
    credentials: Credentials
    project: Project | None
    mongo_answers: MongoAnswers
    report_progress: ReportProgress
    cancelled: threading.Event = field(default_factory=threading.Event)

    def start(self, part: str) -> None:
        """Start a part unless it runs, and wait until it answers.

        Raises:
            Permanent: it ended or did not answer; with the last lines of its log.
        """
        started = time.monotonic()
        layout, ports = self.layout, self.stack.ports
        if part == database.NAME:
            self._run(database.service(layout, ports, self.mongo_answers))
        elif part == object_store.NAME:
            self._run(object_store.service(layout, ports, self.credentials))
        elif part == image_server.NAME:
            self._run(image_server.service(layout, ports))
        elif part == postgres.NAME:
            postgres.start(layout)
        else:
            self._start_airflow()
        self.report_progress(f"{part}: ready after {time.monotonic() - started:.1f} s")

    def _start_airflow(self) -> None:
        if self.project is None:
            raise Permanent("airflow needs a project: its DAGs and plugins")
        stack = self.stack
        service = airflow_server.service(
            self.layout,
            stack.ports,
            self.credentials,
            project=self.project,
            connections=stack.connections,
            metadata_uri=postgres.start(self.layout),
        )
        self._run(service)
        airflow_server.create_pools(stack.ports, self.credentials, POOLS)
        shown = self.layout.airflow_passwords_shown_file
        if not shown.exists():
            self.report_progress(
                f"airflow: sign in at {stack.airflow_url} as {stack.airflow_user} with the password "
                f"{stack.airflow_password} (shown this once, kept in {self.layout.airflow_passwords_file})"
            )
            shown.touch()

    def _run(self, service: Service) -> None:
        part, log = service.name, self.layout.log(service.name)
        if not runs(self.layout, self.stack.ports, part):
            process = processes.start(
                service.command, environment=service.environment, folder=self.layout.data(part), log=log
            )
            ports = sorted(self.stack.ports.of(part))
            processes.remember(self.layout.pid_file(part), process.pid, ports)
        try:
            wait_until_ready(
                part,
                service.probe,
                timeout_s=service.start_timeout_s,
                check=lambda: self._check(part),
                report_progress=self.report_progress,
            )
        except Permanent as error:
            raise Permanent(f"{error}\n{processes.last_lines(log)}\n  log: {log}") from None

    def _check(self, part: str) -> None:
        if self.cancelled.is_set():
            raise Permanent(f"stopped waiting for {part}, because another part failed")
        if not runs(self.layout, self.stack.ports, part):
            raise Permanent(f"{part} ended instead of starting")


def is_running(layout: Layout, part: str) -> bool:
    """Whether the part's process runs, on any ports."""
    return _running(layout, part) is not None


def runs(layout: Layout, ports: Ports, part: str) -> bool:
    """Whether the part's process runs.

    Raises:
        UsageError: it runs, but on other ports.
    """
    running = _running(layout, part)
    if running is None:
        return False
    if running.ports != tuple(sorted(ports.of(part))):
        raise UsageError(
            f"{part} runs on other ports ({', '.join(map(str, running.ports))}): "
            "stop the stack first (`mnist-ops stack down`)"
        )
    return True


def _running(layout: Layout, part: str) -> processes.Running | None:
    running = processes.recall(layout.pid_file(part))
    return running if running is not None and processes.is_alive(running) else None


def stop_part(layout: Layout, part: str, report_progress: ReportProgress) -> bool:
    """Stop a part, or what its first process left behind; return whether anything ran."""
    running = processes.recall(layout.pid_file(part))
    if running is None:
        return False
    started = time.monotonic()
    how = postgres.STOP_SIGNAL if part == postgres.NAME else processes.STOP_SIGNAL
    was_running = processes.stop(running, home=layout.root, grace=_GRACE_S, how=how)
    layout.pid_file(part).unlink(missing_ok=True)
    if was_running:
        report_progress(f"{part}: stopped after {time.monotonic() - started:.1f} s")
    return was_running


def part_status(layout: Layout, ports: Ports, part: str, mongo_answers: MongoAnswers) -> PartStatus:
    """Probe a part and measure its memory."""
    running = _running(layout, part)
    if running is None:
        return PartStatus(part, None, memory_bytes=0, missing="it does not run")
    missing = _probe(ports, part, mongo_answers)()
    return PartStatus(part, running.pid, processes.memory_bytes(running, home=layout.root), missing)


def _probe(ports: Ports, part: str, mongo_answers: MongoAnswers) -> Probe:
    probes: dict[str, Probe] = {
        database.NAME: database.probe(ports, mongo_answers),
        object_store.NAME: object_store.probe(ports),
        image_server.NAME: image_server.probe(ports),
        airflow_server.NAME: airflow_server.probe(ports),
    }
    # PostgreSQL has no probe: it answers as long as its process runs.
    return probes.get(part, lambda: None)
