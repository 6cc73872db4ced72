"""The variables: misspelt ones are named, and equal settings have equal texts."""

import dataclasses
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from mnist_ops.local.ports import Ports, variable
from mnist_ops.settings import Settings
from mnist_ops.variables import changed_settings, known_variables, settings_of_stack, unknown_variables

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MNIST_OPS_S3_BUKET", "MNIST_OPS_S3_BUCKET"),
        ("MNIST_OPS_COLLECTION", "MNIST_OPS_MONGO_COLLECTION"),
        ("MNIST_OPS_ALLOWED_HOST", "MNIST_OPS_ALLOWED_HOSTS"),
        ("mnist_ops_fail_budget", "MNIST_OPS_FAILURE_BUDGET"),
        ("MNIST_OPS_PORT_MONGODB", "MNIST_OPS_PORT_MONGO"),
        ("MNIST_OPS_PORT_IMAGE", "MNIST_OPS_PORT_IMAGES"),
    ],
)
def test_a_misspelt_variable_names_the_nearest_real_one(name: str, nearest: str) -> None:
    """It would otherwise be ignored silently."""
    [warning] = unknown_variables({name: "1"}).values()
    assert warning == f"{name.upper()} is not a setting and has no effect: did you mean {nearest}?"


def test_a_variable_that_is_like_no_other_names_the_command_that_lists_all() -> None:
    """A guess would mislead."""
    [warning] = unknown_variables({"MNIST_OPS_XYZZY": "1"}).values()
    assert warning.endswith("has no effect: `mnist-ops settings` lists all settings")


def test_every_variable_that_the_project_reads_is_known() -> None:
    """Settings, ports, and those that its files name."""
    files = [ROOT / "docker-compose.yaml", *ROOT.glob("mnist_ops/**/*.py"), *ROOT.glob("plugins/**/*.py")]
    texts = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"\bMNIST_OPS_[A-Z0-9_]*[A-Z0-9]\b", texts))
    assert {variable(field.name) for field in dataclasses.fields(Ports)} <= known_variables()
    assert "MNIST_OPS_S3_BUCKET" in named
    assert named <= known_variables()


def test_an_unknown_variable_that_is_empty_is_not_named() -> None:
    """Compose files set variables that have no value to the empty text."""
    assert not unknown_variables({"MNIST_OPS_S3_BUKET": "", "MNIST_OPS": "1", "OTHER": "1"})


def test_equal_settings_have_equal_texts() -> None:
    """However they are written; a default that is written out is no change."""
    assert changed_settings(
        {
            "MNIST_OPS_IMAGE_BUCKETS": " b, a,",
            "MNIST_OPS_FAILURE_BUDGET": "0.250",
            "MNIST_OPS_REQUIRE_APPROVAL": "Yes",
            "MNIST_OPS_RECORDS_PER_PART": "20000",
            "MNIST_OPS_THREADS": "",
            "MNIST_OPS_LOCAL_DIR": "/elsewhere",
            "mnist_ops_s3_prefix": "a/b",
        }
    ) == {
        "MNIST_OPS_IMAGE_BUCKETS": "a,b",
        "MNIST_OPS_FAILURE_BUDGET": "0.25",
        "MNIST_OPS_REQUIRE_APPROVAL": "true",
        "MNIST_OPS_S3_PREFIX": "a/b",
    }


def test_the_texts_are_read_as_the_same_settings() -> None:
    """A stack's tasks get them."""
    values = {"allowed_hosts": "b:1,a:2", "fetch_timeout_s": "7", "trackers": "sqlite", "data_dir": "/data"}
    variables = {f"MNIST_OPS_{name.upper()}": value for name, value in values.items()}
    changed = changed_settings(variables)
    again = {name.removeprefix("MNIST_OPS_").lower(): value for name, value in changed.items()}
    assert Settings(**again) == Settings(**values)
    assert again.keys() == values.keys()


def test_only_the_given_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of this process do not get in."""
    monkeypatch.setenv("MNIST_OPS_S3_BUCKET", "of-this-process")
    assert changed_settings({"MNIST_OPS_THREADS": "2"}) == {"MNIST_OPS_THREADS": "2"}


def test_a_wrong_value_is_an_error_of_the_settings() -> None:
    """The command line prints it with the name of its variable."""
    with pytest.raises(ValidationError) as raised:
        changed_settings({"MNIST_OPS_THREADS": "many"})
    assert raised.value.title == "Settings"


def test_a_stack_allows_its_own_image_server_and_has_absolute_folders(monkeypatch, tmp_path) -> None:
    """Its tasks run in other folders; ports are not for them."""
    monkeypatch.chdir(tmp_path)
    settings = settings_of_stack(
        {
            "MNIST_OPS_ALLOWED_HOSTS": "images.internal:80",
            "MNIST_OPS_DATA_DIR": "mnist",
            "MNIST_OPS_PORT_IMAGES": "9000",
            "MNIST_OPS_S3_BUKET": "photos",
        },
        Ports(images=9000),
        tmp_path / "stack",
    )
    assert settings == {
        "MNIST_OPS_ALLOWED_HOSTS": "127.0.0.1:9000,images.internal:80",
        "MNIST_OPS_DATA_DIR": str(tmp_path / "mnist"),
        "MNIST_OPS_TRAINING_DIR": str(tmp_path / "stack" / "training"),
        # So that the log of a snapshot names it too.
        "MNIST_OPS_S3_BUKET": "photos",
    }
