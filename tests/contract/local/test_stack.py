"""The embedded stack with real parts: SecantusDB, SeaweedFS and the image server on free ports."""

import dataclasses
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError
from pymongo import MongoClient

from mnist_ops.adapters.mongo.connection import mongo_answers
from mnist_ops.domain.errors import Permanent, Transient, UsageError
from mnist_ops.local import processes, stack, state
from mnist_ops.local.airflow_server import Project
from mnist_ops.local.credentials import load_or_create
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST, Ports
from tests.support.servers import first_free_port, free_ports_of_a_stack, s3_client

PARTS = ("mongo", "s3", "images")

up = functools.partial(stack.up, mongo_answers=mongo_answers)
status = functools.partial(stack.status, mongo_answers=mongo_answers)


@pytest.fixture
def ports():
    """Free ports for every part."""
    return free_ports_of_a_stack()


@pytest.fixture
def layout(tmp_path):
    """A stack for one test, stopped afterwards."""
    layout = Layout(tmp_path / "stack")
    yield layout
    stack.down(layout)


def members(layout, part):
    """Return the processes of a running part."""
    return processes.members(processes.recall(layout.pid_file(part)), home=layout.root)


def test_the_parts_answer_keep_their_data_and_end(layout, ports):
    """The whole life of a stack: up, use, up again, down, up, use."""
    reported = []
    running = up(layout, ports, parts=PARTS, report_progress=reported.append)
    assert stack.load(layout) == running
    assert [part.name for part in status(layout, Ports()) if part.missing is None] == list(PARTS)
    for part in PARTS:
        assert any(line.startswith(f"{part}: ready after") for line in reported)
    (layout.images / "7.png").write_bytes(b"PNG")
    with urllib.request.urlopen(f"{running.images_url}/7.png", timeout=5) as answer:
        assert answer.read() == b"PNG"
    with MongoClient(HOST, ports.mongo) as client:
        client["mnist"]["records"].insert_one({"_id": 1, "kept": True})
    s3_client(running.connections["aws_default"]).put_object(Bucket=running.bucket, Key="a/b", Body=b"kept")

    before = {part.name: part.pid for part in status(layout, ports)}
    assert up(layout, ports, parts=PARTS) == running
    assert {part.name: part.pid for part in status(layout, ports)} == before

    ended = [process for part in PARTS for process in members(layout, part)]
    assert stack.down(layout) == PARTS
    assert not [process for process in ended if process.is_running()]
    assert stack.load(layout) is None
    assert stack.down(layout) == ()

    again = up(layout, ports, parts=PARTS)
    assert again == running
    with MongoClient(HOST, ports.mongo) as client:
        assert client["mnist"]["records"].find_one() == {"_id": 1, "kept": True}
    found = s3_client(again.connections["aws_default"]).get_object(Bucket=again.bucket, Key="a/b")
    with found["Body"] as body:
        assert body.read() == b"kept"


def test_everything_listens_on_this_machine_only(layout, ports):
    """The network must not reach records or objects, and the store requires its keys."""
    running = up(layout, ports, parts=PARTS)
    listening = [
        connection.laddr
        for part in PARTS
        for process in members(layout, part)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening} == {HOST}
    assert {address.port for address in listening} == {port for part in PARTS for port in ports.of(part)}
    with pytest.raises(ClientError, match=r"403|SignatureDoesNotMatch"):
        s3_client(running.connections["aws_default"], secret="wrong").list_buckets()
    assert layout.state_file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["mongo", "s3", "s3_internal", "images"])
def test_a_taken_port_gives_one_clear_line_before_anything_is_started(layout, ports, name):
    """With the port, the part and the variable that changes it."""
    port = getattr(ports, name) + (3 if name == "s3_internal" else 0)
    with socket.create_server((HOST, port)), pytest.raises(Permanent) as refused:
        up(layout, ports, parts=PARTS)
    part = name.removesuffix("_internal")
    assert str(refused.value) == (
        f"port {port}, which {part} needs, is taken by another program: "
        f"set MNIST_OPS_PORT_{name.upper()} to a free one"
    )
    assert not list((layout.root / "pids").iterdir())


def test_a_part_that_ends_early_is_reported_with_its_log_and_the_others_are_stopped(layout, ports):
    """No half-started part stays behind."""
    layout.make_folders(PARTS)
    layout.data("mongo").rmdir()
    layout.data("mongo").mkdir()
    (layout.data("mongo") / "WiredTiger").mkdir()
    with pytest.raises(Permanent, match="mongo ended instead of starting") as failed:
        up(layout, ports, parts=PARTS)
    assert f"log: {layout.log('mongo')}" in str(failed.value)
    assert "Error" in str(failed.value)
    assert not [part for part in status(layout, ports) if part.pid]


def test_a_part_that_was_killed_is_started_again(layout, ports):
    """`up` is how people repair a stack."""
    up(layout, ports, parts={"images"})
    first = processes.recall(layout.pid_file("images"))
    killed = psutil.Process(first.pid)
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=10)
    up(layout, ports, parts={"images"})
    assert processes.recall(layout.pid_file("images")).pid != first.pid


def test_down_ends_only_its_own_processes(layout, ports, tmp_path):
    """Neither those of a second stack, nor a foreign process that a pid file names."""
    up(layout, ports, parts={"images"})
    other = Layout(tmp_path / "other")
    try:
        up(other, free_ports_of_a_stack(), parts={"images"})
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
            layout.pid_file("mongo").write_text(
                json.dumps({"pid": stranger.pid, "started": 1.0, "ports": []})
            )
            assert stack.down(layout) == ("images",)
            assert stranger.poll() is None
            stranger.communicate(b"\n")
        assert [part.name for part in status(other, Ports()) if part.missing is None] == ["images"]
    finally:
        stack.down(other)


def test_a_stack_outlives_the_command_that_started_it_and_another_ends_it(layout, ports):
    """`mnist-ops stack up` returns; `mnist-ops stack down` is another process."""
    code = (
        "import sys; from pathlib import Path; from mnist_ops.local import stack; "
        "from mnist_ops.local.layout import Layout; from mnist_ops.local.ports import Ports; "
        "layout, ports = Layout(Path(sys.argv[1])), Ports(images=int(sys.argv[2])); "
        "stack.up(layout, ports, parts={'images'}, mongo_answers=lambda *_: False)"
    )
    root = Path(stack.__file__).parents[2]
    command = [sys.executable, "-c", code, str(layout.root), str(ports.images)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(root)}, timeout=60)
    running = stack.load(layout)
    with pytest.raises(urllib.error.HTTPError, match="404") as answer:
        urllib.request.urlopen(f"{running.images_url}/absent", timeout=5)
    answer.value.close()
    assert stack.down(layout) == ("images",)


def test_two_commands_at_once_do_not_start_a_part_twice(layout, ports):
    """The second one fails with a clear message."""
    with layout.exclusively(), pytest.raises(Transient, match="another command"):
        up(layout, ports, parts={"images"})


def test_a_running_stack_refuses_other_ports_and_keeps_running(layout, ports):
    """Nothing is started, stopped or written; with the same ports, `up` goes on."""
    running = up(layout, ports, parts={"images"})
    before = processes.recall(layout.pid_file("images"))
    other = dataclasses.replace(ports, images=first_free_port(1))
    with pytest.raises(UsageError) as refused:
        up(layout, other, parts=PARTS)
    assert str(refused.value).splitlines()[1:-1] == [
        f"  MNIST_OPS_PORT_IMAGES: running with {ports.images}, wanted {other.images}"
    ]
    assert stack.load(layout) == running
    assert processes.recall(layout.pid_file("images")) == before
    assert [part.name for part in status(layout, ports) if part.pid] == ["images"]
    assert up(layout, ports, parts={"images"}) == running


def test_a_running_airflow_keeps_its_settings(layout, ports, tmp_path):
    """`up` with a changed variable is refused; another process is called Airflow, which takes a minute."""
    up(layout, ports, parts={"images"})
    was_started_with = {"MNIST_OPS_THREADS": "2"}
    state.save(layout, state.describe(ports, load_or_create(layout), was_started_with))
    project = Project(tmp_path, tmp_path, {"MNIST_OPS_THREADS": "4"})
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as airflow:
        processes.remember(layout.pid_file("airflow"), airflow.pid, [ports.airflow])
        with pytest.raises(UsageError, match="MNIST_OPS_THREADS: running with 2, wanted 4"):
            up(layout, ports, parts={"images"}, project=project)
        assert stack.load(layout).settings == was_started_with
        assert airflow.poll() is None
        airflow.communicate(b"\n")
    layout.pid_file("airflow").unlink()
    assert up(layout, ports, parts={"images"}, project=project).settings == project.settings
