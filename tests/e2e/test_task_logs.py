"""The logs of real tasks hold what concerns a reader."""

import json
from pathlib import Path

import pytest

from mnist_ops.local.layout import Layout

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

# What libraries say of themselves.
NOISE = ("GitWildMatchPattern", "Skipping masking", "onnx_ir", "onnxscript")


@pytest.fixture(scope="module")
def lines(champion: str, layout: Layout) -> list[dict[str, str]]:
    """The lines of all tasks' logs so far; those that train and release a model are among them."""
    assert champion
    paths = sorted(Path(layout.data("airflow"), "logs").glob("dag_id=*/**/*.log"))
    folders = {folder for path in paths for folder in path.parts}
    assert folders >= {"task_id=train", "task_id=release", "task_id=fetch"}
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def test_no_library_talks_of_itself(lines):
    """Neither at the head of a log nor where a model is exported."""
    told = [line for line in lines if any(word in f"{line.get('logger')} {line['event']}" for word in NOISE)]
    assert told == []


def test_a_line_has_one_time(lines):
    """The training's process leaves that to the log of its task."""
    assert [line["event"] for line in lines if line["event"][:4].isdecimal()] == []
