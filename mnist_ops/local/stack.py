"""The embedded stack: up, down, status.

`up` may be called on a stack that runs, wholly or in part: it starts what is missing.
"""

import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor, as_completed

from mnist_ops.domain.errors import Permanent
from mnist_ops.local import airflow_server, postgres
from mnist_ops.local.airflow_server import Project
from mnist_ops.local.credentials import load_or_create
from mnist_ops.local.layout import Layout
from mnist_ops.local.parts import PARTS, PartStatus, Starter, part_status, runs, stop_part
from mnist_ops.local.ports import Ports, require_free
from mnist_ops.local.readiness import Tell
from mnist_ops.local.state import Stack, describe, load, save

__all__ = ["PARTS", "PartStatus", "Project", "Stack", "down", "load", "status", "up"]


def up(
    layout: Layout,
    ports: Ports,
    *,
    parts: Collection[str] = PARTS,
    project: Project | None = None,
    tell: Tell = lambda _: None,
) -> Stack:
    """Start the parts that do not run yet, and wait until each answers.

    Args:
        layout: where the stack lives.
        ports: where it listens; parts that run already must be running there.
        parts: which ones; `airflow` brings `postgres` along.
        project: DAGs, plugins and settings; Airflow needs it.
        tell: shows a line of progress; called from other threads, one at a time.

    Raises:
        Permanent: a port is taken, a program is missing, or a part ended or did not answer; the message
            holds the last lines of its log. What this call had started is stopped again.
        Transient: another command is starting or stopping this stack.
    """
    wanted, tell = _in_order(parts, project), _one_at_a_time(tell)
    with layout.exclusively():
        layout.make_folders(wanted)
        running = [part for part in PARTS if runs(layout, ports, part)]
        missing = tuple(part for part in wanted if part not in running)
        # What a part that died has left behind would hold its ports.
        _stop(layout, missing, tell)
        require_free(ports, missing)
        credentials = load_or_create(layout)
        before = load(layout)
        settings = project.settings if project else before.settings if before else {}
        stack = describe(ports, credentials, settings)
        try:
            _start(Starter(layout, stack, credentials, project, tell), wanted)
        except BaseException:
            # Also when it is interrupted from the keyboard: nothing half started stays behind.
            _stop(layout, missing, tell)
            raise
        save(layout, stack)
    return stack


def down(layout: Layout, *, tell: Tell = lambda _: None) -> tuple[str, ...]:
    """Stop the parts that run, and nothing else; return their names. Data and logs stay.

    Raises:
        Transient: another command is starting or stopping this stack.
    """
    with layout.exclusively():
        stopped = _stop(layout, PARTS, _one_at_a_time(tell))
        layout.state_file.unlink(missing_ok=True)
    return stopped


def status(layout: Layout, ports: Ports) -> tuple[PartStatus, ...]:
    """Ask every part how it does; `ports` counts where no stack was started."""
    stack = load(layout)
    return tuple(part_status(layout, stack.ports if stack else ports, part) for part in PARTS)


def _one_at_a_time(tell: Tell) -> Tell:
    lock = threading.Lock()

    def told(line: str) -> None:
        with lock:
            tell(line)

    return told


def _in_order(parts: Collection[str], project: Project | None) -> tuple[str, ...]:
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise Permanent(f"unknown parts {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    if airflow_server.NAME in parts and project is None:
        raise Permanent("airflow needs a project: its DAGs and plugins")
    wanted = {*parts, postgres.NAME} if airflow_server.NAME in parts else set(parts)
    return tuple(part for part in PARTS if part in wanted)


def _start(starter: Starter, wanted: tuple[str, ...]) -> None:
    """Start the parts side by side; Airflow, which takes longest, only waits for PostgreSQL."""
    chains: list[tuple[str, ...]] = [
        (part,) for part in wanted if part not in {postgres.NAME, airflow_server.NAME}
    ]
    chains.append(tuple(part for part in wanted if part in {postgres.NAME, airflow_server.NAME}))

    def run(chain: tuple[str, ...]) -> None:
        for part in chain:
            starter.start(part)

    with ThreadPoolExecutor(len(chains)) as pool:
        try:
            for future in as_completed([pool.submit(run, chain) for chain in chains]):
                future.result()
        except BaseException:
            # The pool waits for its threads: tell them that there is nothing to wait for.
            starter.given_up.set()
            raise


def _stop(layout: Layout, which: tuple[str, ...], tell: Tell) -> tuple[str, ...]:
    # Airflow first, so that its tasks lose nothing they are using; the others do not depend on each other.
    stopped = {part for part in which if part == airflow_server.NAME and stop_part(layout, part, tell)}
    others = [part for part in which if part != airflow_server.NAME]
    with ThreadPoolExecutor(len(PARTS)) as pool:
        ended = pool.map(lambda part: stop_part(layout, part, tell), others)
        stopped.update(part for part, was_running in zip(others, ended, strict=True) if was_running)
    return tuple(part for part in PARTS if part in stopped)
