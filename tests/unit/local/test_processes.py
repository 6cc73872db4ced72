"""Starting and stopping processes, with real ones that sleep."""

import os
import signal
import subprocess
import time

import psutil
import pytest

from mnist_ops.domain.errors import Permanent
from mnist_ops.local import processes


@pytest.fixture
def launch(tmp_path):
    """Starts a shell line as a part; its remaining processes are ended after the test."""
    started = []

    def start(line):
        process = processes.start(
            ("sh", "-c", line), environment=os.environ, folder=tmp_path, log=tmp_path / "part.log"
        )
        running = processes.remember(tmp_path / "part.json", process.pid, [31_000])
        started.append(running)
        return running

    yield start
    for running in started:
        processes.stop(running, home=tmp_path, grace=0.0)


def eventually(condition):
    """Wait until a condition holds; fail after ten seconds."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "waited for ten seconds"
        time.sleep(0.02)


def test_a_process_that_runs_is_recalled_from_its_pid_file(launch, tmp_path):
    """The next command is another process."""
    running = launch("sleep 60")
    assert processes.recall(tmp_path / "part.json") == running
    assert processes.is_alive(running)


def test_a_part_runs_in_its_own_session(launch):
    """A signal to the terminal's group must not reach it."""
    running = launch("sleep 60")
    assert os.getsid(running.pid) == running.pid != os.getsid(0)


def test_a_process_that_ended_is_not_alive_although_nobody_waited_for_it(launch):
    """A zombie still has its id."""
    running = launch("exit 3")
    eventually(lambda: not processes.is_alive(running))


def test_stopping_ends_all_descendants(launch, tmp_path):
    """Airflow's leader alone would leave its API server behind."""
    running = launch("sleep 60 & sleep 60 & wait")
    eventually(lambda: len(processes.members(running, home=tmp_path)) == 3)
    members = processes.members(running, home=tmp_path)
    assert processes.stop(running, home=tmp_path, grace=5.0)
    assert not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in members)
    assert not processes.is_alive(running)


def test_a_process_that_ignores_the_signal_is_killed_after_the_grace_period(launch, tmp_path):
    """A part that hangs must not hang the command."""
    running = launch("trap '' TERM; echo ready; while :; do sleep 60; done")
    eventually(lambda: "ready" in (tmp_path / "part.log").read_text())
    began = time.monotonic()
    assert processes.stop(running, home=tmp_path, grace=0.3)
    assert time.monotonic() - began < 5
    assert not processes.is_alive(running)


def test_children_whose_leader_died_are_still_found_and_stopped(launch, tmp_path):
    """They hold the part's ports."""
    running = launch("sleep 60 & wait")
    eventually(lambda: len(processes.members(running, home=tmp_path)) == 2)
    child = psutil.Process(running.pid).children()[0]
    os.kill(running.pid, signal.SIGKILL)
    eventually(lambda: not processes.is_alive(running))
    assert processes.stop(running, home=tmp_path, grace=5.0)
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_another_process_with_the_same_id_is_never_touched(tmp_path):
    """The kernel reuses process ids."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True, cwd=tmp_path) as stranger:
        earlier = processes.Running(stranger.pid, psutil.Process(stranger.pid).create_time() - 100)
        try:
            assert not processes.is_alive(earlier)
            processes.stop(earlier, home=tmp_path / "stack", grace=0.1)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_recycled_id_whose_process_runs_in_the_stacks_folder_is_not_touched(tmp_path):
    """It may be a shell that somebody opened there."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True, cwd=tmp_path) as stranger:
        earlier = processes.Running(stranger.pid, psutil.Process(stranger.pid).create_time() - 100)
        try:
            assert not processes.stop(earlier, home=tmp_path, grace=0.1)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_stopping_a_part_that_has_ended_reports_that_nothing_ran(launch, tmp_path):
    """`down` reports only what it stopped."""
    running = launch("exit 0")
    eventually(lambda: not processes.is_alive(running))
    assert not processes.stop(running, home=tmp_path, grace=0.1)


@pytest.mark.parametrize("text", ["", "{}", '{"pid": "x", "started": 1, "ports": []}', "12"])
def test_a_damaged_pid_file_counts_as_none(tmp_path, text):
    """No process may be signalled because of it."""
    (tmp_path / "part.json").write_text(text)
    assert processes.recall(tmp_path / "part.json") is None
    assert processes.recall(tmp_path / "absent.json") is None


def test_a_program_that_does_not_exist_is_named(tmp_path):
    """In one line."""
    with pytest.raises(Permanent, match="no-such-program cannot be run"):
        processes.start(("no-such-program",), environment={}, folder=tmp_path, log=tmp_path / "log")


def test_the_end_of_a_log_is_shown_indented(tmp_path):
    """It is printed below the error."""
    log = tmp_path / "log"
    assert "no log" in processes.last_lines(log)
    log.write_text("".join(f"line {number}\n" for number in range(5_000)))
    assert processes.last_lines(log, 2) == "    line 4998\n    line 4999"


def test_the_memory_of_a_part_is_that_of_all_its_processes(launch, tmp_path):
    """In bytes."""
    running = launch("sleep 60 & wait")
    eventually(lambda: len(processes.members(running, home=tmp_path)) == 2)
    assert processes.memory_bytes(running, home=tmp_path) > 500_000
