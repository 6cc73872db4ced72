"""The files of the embedded stack, and who can read them."""

import json
import stat

import pytest

from mnist_ops.domain.errors import Damaged, Transient
from mnist_ops.local import state
from mnist_ops.local.credentials import load_or_create
from mnist_ops.local.layout import Layout, write_private
from mnist_ops.local.ports import Ports


@pytest.fixture
def layout(tmp_path):
    """The folders of a stack."""
    layout = Layout(tmp_path / "stack")
    layout.make_folders(("mongo",))
    return layout


def mode(path):
    """Return a file's permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_relative_root_is_made_absolute_because_the_parts_run_elsewhere(tmp_path, monkeypatch):
    """Each part runs in its own folder."""
    monkeypatch.chdir(tmp_path)
    assert Layout(type(tmp_path)(".local")).root == tmp_path / ".local"


def test_only_the_owner_can_read_what_is_written_in_private(tmp_path):
    """Also where it replaces a file that others can read."""
    path = tmp_path / "keys.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


def test_credentials_are_generated_once_and_then_read(layout):
    """A second start must find the data that the first start's keys protect."""
    first = load_or_create(layout)
    assert load_or_create(layout) == first
    assert mode(layout.credentials_file) == 0o600
    assert mode(layout.credentials_file.parent) == 0o700


def test_two_stacks_share_no_credential(tmp_path):
    """No default passwords."""
    seen = set()
    for name in "ab":
        layout = Layout(tmp_path / name)
        layout.make_folders(())
        load_or_create(layout)
        seen.update(json.loads(layout.credentials_file.read_text()).values())
    assert len(seen) == 12


def test_credentials_do_not_show_in_a_representation(layout):
    """Representations end up in logs."""
    credentials = load_or_create(layout)
    assert credentials.airflow_password not in repr(credentials)
    assert credentials.airflow_password not in repr(state.describe(Ports(), credentials, {}))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"s3_access_key": "only"}'])
def test_damaged_credentials_are_reported_and_left_alone(layout, text):
    """With new credentials the existing data could not be read."""
    layout.credentials_file.write_text(text)
    with pytest.raises(Damaged, match="cannot be read"):
        load_or_create(layout)
    assert layout.credentials_file.read_text() == text


def test_one_command_at_a_time_works_on_a_stack(layout):
    """Two commands would start every part twice."""
    with layout.exclusively(), pytest.raises(Transient, match="another command"), layout.exclusively():
        pytest.fail("two commands at once")
    with layout.exclusively():
        pass


def test_the_state_of_a_stack_survives_writing_and_reading(layout):
    """The command line finds the stack by it."""
    stack = state.describe(Ports(mongo=1), load_or_create(layout), {"MNIST_OPS_X": "1"})
    assert state.load(layout) is None
    state.save(layout, stack)
    assert state.load(layout) == stack
    assert mode(layout.state_file) == 0o600


def test_the_state_file_has_the_connections_where_the_settings_look_for_them(layout):
    """`mnist_ops.connections.read_connection` reads this file."""
    state.save(layout, state.describe(Ports(mongo=31_000, s3=31_001), load_or_create(layout), {}))
    connections = json.loads(layout.state_file.read_text())["connections"]
    assert connections["mongo_default"]["port"] == 31_000
    assert connections["aws_default"]["extra"]["endpoint_url"] == "http://127.0.0.1:31001"


def test_a_damaged_state_file_is_reported_in_one_line(layout):
    """Not with a traceback."""
    layout.state_file.write_text('{"ports": {}}')
    with pytest.raises(Damaged, match=r"stack\.json cannot be read"):
        state.load(layout)
