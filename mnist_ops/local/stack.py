"""The embedded stack: up, down, status.

`up` also works on a stack that runs already, wholly or in part: it starts the missing parts.
"""

import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor, as_completed

from mnist_ops.domain.errors import Permanent
from mnist_ops.local import airflow_server, postgres
from mnist_ops.local.airflow_server import Project
from mnist_ops.local.credentials import load_or_create
from mnist_ops.local.database import MongoAnswers
from mnist_ops.local.drift import refuse_changes
from mnist_ops.local.layout import Layout
from mnist_ops.local.parts import PARTS, PartStatus, Starter, is_running, part_status, runs, stop_part
from mnist_ops.local.ports import Ports, require_free
from mnist_ops.local.readiness import ReportProgress
from mnist_ops.local.state import Stack, describe, load, save

__all__ = ["PARTS", "PartStatus", "Project", "Stack", "down", "load", "status", "up"]


def up(
    layout: Layout,
    ports: Ports,
    *,
    mongo_answers: MongoAnswers,
    parts: Collection[str] = PARTS,
    project: Project | None = None,
    report_progress: ReportProgress = lambda _: None,
) -> Stack:
    """Start the parts that do not run yet, and wait until each answers.

    Args:
        layout: where the stack keeps its files.
        ports: where it listens.
        mongo_answers: whether a MongoDB server answers, such as that of `adapters.mongo.connection`.
        parts: which ones; `airflow` includes `postgres`.
        project: DAGs, plugins and settings; required for `airflow`.
        report_progress: shows a line of progress; called from other threads, one at a time.

    Raises:
        UsageError: parts run with other ports, or Airflow with other settings; the message lists them.
            Nothing is started or stopped.
        Permanent: a port is taken, a program is missing, or a part ended or did not answer; the message
            holds the last lines of its log. What this call had started is stopped again.
        Transient: another command is starting or stopping this stack.
    """
    wanted, report_progress = _in_order(parts, project), _one_at_a_time(report_progress)
    with layout.exclusively():
        layout.make_folders(wanted)
        credentials = load_or_create(layout)
        before = load(layout)
        settings = project.settings if project else before.settings if before else {}
        stack = describe(ports, credentials, settings)
        refuse_changes(before, stack, [part for part in PARTS if is_running(layout, part)])
        running = [part for part in PARTS if runs(layout, ports, part)]
        missing = tuple(part for part in wanted if part not in running)
        # Processes that a dead part left behind may still hold its ports.
        _stop(layout, missing, report_progress)
        require_free(ports, missing)
        try:
            starter = Starter(layout, stack, credentials, project, mongo_answers, report_progress)
            _start(starter, wanted)
        except BaseException:
            # Also after an interrupt from the keyboard: no half-started part stays behind.
            _stop(layout, missing, report_progress)
            raise
        save(layout, stack)
    return stack


def down(layout: Layout, *, report_progress: ReportProgress = lambda _: None) -> tuple[str, ...]:
    """Stop the parts that run, and no other process; return their names. Data and logs stay.

    Raises:
        Transient: another command is starting or stopping this stack.
    """
    with layout.exclusively():
        stopped = _stop(layout, PARTS, _one_at_a_time(report_progress))
        layout.state_file.unlink(missing_ok=True)
    return stopped


def status(layout: Layout, ports: Ports, *, mongo_answers: MongoAnswers) -> tuple[PartStatus, ...]:
    """Probe every part; `ports` is used only where no stack was started."""
    stack = load(layout)
    used = stack.ports if stack else ports
    return tuple(part_status(layout, used, part, mongo_answers) for part in PARTS)


def _one_at_a_time(report_progress: ReportProgress) -> ReportProgress:
    lock = threading.Lock()

    def report(line: str) -> None:
        with lock:
            report_progress(line)

    return report


def _in_order(parts: Collection[str], project: Project | None) -> tuple[str, ...]:
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise Permanent(f"unknown parts {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    if airflow_server.NAME in parts and project is None:
        raise Permanent("airflow needs a project: its DAGs and plugins")
    wanted = {*parts, postgres.NAME} if airflow_server.NAME in parts else set(parts)
    return tuple(part for part in PARTS if part in wanted)


def _start(starter: Starter, wanted: tuple[str, ...]) -> None:
    """Start the parts in parallel; Airflow, which takes longest, waits for PostgreSQL only."""
    last = (postgres.NAME, airflow_server.NAME)
    chains = [[part] for part in wanted if part not in last]
    chains.append([part for part in wanted if part in last])

    def run(chain: list[str]) -> None:
        for part in chain:
            starter.start(part)

    with ThreadPoolExecutor(len(chains)) as pool:
        try:
            for future in as_completed([pool.submit(run, chain) for chain in chains]):
                future.result()
        except BaseException:
            # The pool waits for its threads: this ends them early.
            starter.cancelled.set()
            raise


def _stop(layout: Layout, which: tuple[str, ...], report_progress: ReportProgress) -> tuple[str, ...]:
    def stop(part: str) -> bool:
        return stop_part(layout, part, report_progress)

    # Airflow first: its tasks use the other parts, which do not depend on each other.
    stopped = {part for part in which if part == airflow_server.NAME and stop(part)}
    others = [part for part in which if part != airflow_server.NAME]
    with ThreadPoolExecutor(len(PARTS)) as pool:
        ended = pool.map(stop, others)
        stopped.update(part for part, was_running in zip(others, ended, strict=True) if was_running)
    return tuple(part for part in PARTS if part in stopped)
