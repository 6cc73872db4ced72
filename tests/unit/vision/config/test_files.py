"""Training configurations in files: which value applies, and the message for each mistake."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mnist_ops.vision.config.files import (
    config_of_text,
    config_schema,
    read_config,
    shipped_configs,
)
from mnist_ops.vision.config.networks import NETWORKS
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.training.augmentation import augments

ROOT = Path(__file__).parents[4]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a file and returns its path."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def errors_of(load: Callable[..., object], *arguments: object) -> list[str]:
    """Return the lines that the command line prints for a configuration that is refused."""
    with pytest.raises(ValidationError) as caught:
        load(*arguments)
    return [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in caught.value.errors()]


def load_config(path: Path | None, changes: Sequence[str] = ()) -> TrainingConfig:
    """Return the configuration of a single training with changes on top."""
    return read_config(path).changed(changes).config()


def trials_of(path: Path, changes: Sequence[str] = ()) -> tuple[TrainingConfig, ...]:
    """Return the trials of a configuration with changes on top."""
    return read_config(path).changed(changes).trials()


# --- reading


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", 'epochs = 3\noptimizer = "sgd"\nlearning_rate = 1\nkernel_sizes = [5, 5]'),
        ("a.json", '{"epochs": 3, "optimizer": "sgd", "learning_rate": 1, "kernel_sizes": [5, 5]}'),
    ],
)
def test_a_file_gives_the_fields_that_it_names(write: Write, name: str, text: str) -> None:
    """The suffix decides between TOML and JSON."""
    assert load_config(write(name, text)) == TrainingConfig(
        epochs=3, optimizer="sgd", learning_rate=1.0, kernel_sizes=(5, 5)
    )


def test_no_file_gives_the_defaults() -> None:
    """A configuration file is optional."""
    assert load_config(None) == TrainingConfig()


@given(st.builds(TrainingConfig, epochs=st.integers(1, 1000), rotate=st.floats(0, 45), patience=st.none()))
def test_a_config_survives_a_round_trip_through_json(config: TrainingConfig) -> None:
    """The config that a training records can be used again."""
    assert config_of_text(config.model_dump_json(), "test").config() == config


def test_an_extending_file_wins_over_the_one_it_extends(write: Write) -> None:
    """The values that it does not set are inherited."""
    write("base.toml", "epochs = 3\nseed = 4")
    assert load_config(write("mine.toml", 'extend = "base.toml"\nepochs = 5')) == TrainingConfig(
        epochs=5, seed=4
    )


def test_a_chain_of_files_is_relative_to_each_of_them(write: Write) -> None:
    """JSON and TOML mixed, and shipped names among them."""
    write("ground.json", '{"extend": "plain", "seed": 1}')
    write("sub/middle.toml", 'extend = "../ground.json"\nepochs = 2')
    config = load_config(write("top.json", '{"extend": "sub/middle.toml", "rotate": 3}'))
    assert (config.seed, config.epochs, config.rotate, config.zoom) == (1, 2, 3.0, 0.0)


def test_null_in_json_resets_a_value_of_the_extended_file(write: Write) -> None:
    """TOML has no null."""
    write("base.toml", "patience = 3")
    assert load_config(write("mine.json", '{"extend": "base.toml", "patience": null}')).patience is None


def test_changes_win_over_the_file_and_the_last_one_wins(write: Write) -> None:
    """A value that is not JSON is text."""
    file = write("a.toml", "epochs = 3\nseed = 4\npatience = 2")
    changes = ["epochs=5", "optimizer=sgd", "patience=null", "learning_rate=1e-3", "epochs=6"]
    assert load_config(file, changes) == TrainingConfig(
        epochs=6, seed=4, optimizer="sgd", learning_rate=0.001
    )


# --- mistakes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epochs = 0", "epochs: must be greater than or equal to 1; got 0"),
        ("epochs = 1.5", "epochs: must be a valid integer; got 1.5"),
        ('epochs = "3"', 'epochs: must be a valid integer; got "3"'),
        ("epochs = true", "epochs: must be a valid integer; got true"),
        ("epochs = []", "epochs: must be a valid integer; got []"),
        ("learning_rate = nan", "learning_rate: must be a finite number; got NaN"),
        ("momentum = 1", "momentum: must be less than 1; got 1"),
        ("patience = 0", "patience: must be greater than or equal to 1; got 0"),
        ("compile = 1", "compile: must be a valid boolean; got 1"),
        ("seed = 2026-01-31", 'seed: must be a valid integer; got "2026-01-31"'),
        (
            'optimizer = "adamax"',
            "optimizer: must be 'adamw', 'adam', 'sgd' or 'adadelta'; got \"adamax\"",
        ),
        ('network = "lenet"', f'network: must be one of {", ".join(NETWORKS)}; got "lenet"'),
        ("network = 5", "network: must be a valid string; got 5"),
        ("kernel_sizes = [3]", "kernel_sizes.1: Field required; got [3]"),
        ("kernel_sizes = [3, 11]", "kernel_sizes.1: must be less than or equal to 9; got 11"),
        (
            "kernel_sizes = [3, 3]",
            "kernel_sizes: lenet5 has the kernel sizes (5, 5), not (3, 3); other sizes can be chosen for ",
        ),
        ("batch = 7", "batch: there is no such field; did you mean batch_size?"),
        ('extends = "plain"', "extends: there is no such field; did you mean extend?"),
        ("sweep = [1]", "sweep: must be a valid dictionary; got [1]"),
        ("extend = 1", "extend: must be a valid string; got 1"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field_the_rule_and_the_value(
    write: Write, text: str, sentence: str
) -> None:
    """And with the file that set it."""
    file = write("a.toml", text)
    (line,) = errors_of(load_config, file)
    assert line.startswith(sentence)
    assert line.endswith(f" ({file})")


def test_every_field_has_a_message_for_a_value_of_another_type() -> None:
    """No field takes an object."""
    text = json.dumps({field: {"no": "value"} for field in TrainingConfig.model_fields})
    lines = errors_of(config_of_text(text, "--config-json").config)
    assert [line.split(":")[0] for line in lines] == list(TrainingConfig.model_fields)
    assert all(
        re.fullmatch(r'\w+: must be .+; got \{"no": "value"\} \(--config-json\)', line) for line in lines
    )


def test_all_problems_are_reported_at_once_each_with_its_own_file(write: Write) -> None:
    """A value that another file replaces is not validated."""
    base = write("base.toml", "epochs = 0\nseed = -1")
    mine = write("mine.toml", 'extend = "base.toml"\nseed = -2\nzoom = 9')
    epochs, seed, zoom, shift = sorted(
        errors_of(load_config, mine, ["shift=x"]),
        key=lambda line: ["epochs", "seed", "zoom", "shift"].index(line.split(":")[0]),
    )
    assert epochs.endswith(f"({base})")
    assert seed.startswith("seed: must be greater than or equal to 0; got -2")
    assert seed.endswith(f"({mine})")
    assert zoom.endswith(f"({mine})")
    assert shift == 'shift: must be a valid number; got "x" (--set shift=x)'


def test_a_long_value_is_truncated(write: Write) -> None:
    """So that the line stays readable."""
    (line,) = errors_of(load_config, write("a.json", json.dumps({"network": "x" * 5000})))
    assert len(line) < 400


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("epochs", 'set: expected field=value; got "epochs"'),
        ("epoch=3", "epoch: there is no such field; did you mean epochs? (--set epoch=3)"),
        (
            "sweep.epoch=[3]",
            "sweep.epoch: there is no such field; did you mean epochs? (--set sweep.epoch=[3])",
        ),
        ("=3", ": there is no such field; `mnist-ops config schema` lists the fields (--set =3)"),
    ],
)
def test_a_change_of_an_unknown_field_is_refused_with_the_nearest_name(change: str, sentence: str) -> None:
    """A typing error is the most likely reason."""
    (line,) = errors_of(load_config, None, [change])
    assert line.startswith(sentence)


def test_a_file_that_extends_itself_is_refused_with_the_chain(write: Write) -> None:
    """Also through another file."""
    first, second = write("a.toml", 'extend = "b.json"'), write("b.json", '{"extend": "a.toml"}')
    (line,) = errors_of(load_config, first)
    assert line == f"extend: {first} extends {second} extends a.toml: a file cannot extend itself"


def test_a_missing_file_is_refused_with_the_chain(write: Write) -> None:
    """So that people find the file that names it."""
    file = write("a.toml", 'extend = "gone.toml"')
    assert errors_of(load_config, file) == [f"extend: {file} extends gone.toml: there is no such file"]


def test_a_name_that_is_no_file_is_refused_with_the_shipped_ones() -> None:
    """A name without a suffix is one of them."""
    (line,) = errors_of(load_config, Path("quick"))
    assert line.startswith("config: quick: expected a .toml or .json file, or one of classic, default, fast")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.toml", b"epochs = = 3", "not TOML ("),
        ("a.json", b"{", "not JSON ("),
        ("a.json", b"[" * 100_000, "not JSON ("),
        ("a.json", b"[1]", "expected an object of fields; got [1]"),
        ("a.toml", b"\xff", "cannot be read ("),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    """Also if it is nested too deeply, or not UTF-8."""
    (tmp_path / name).write_bytes(content)
    (line,) = errors_of(load_config, tmp_path / name)
    assert line.startswith(f"config: {tmp_path / name}: {problem}")


# --- sweeps in files


def test_a_sweep_in_a_file_gives_its_trials(write: Write) -> None:
    """The other values of the file apply to all of them."""
    file = write("a.toml", "epochs = 2\n[sweep]\nseed = [1, 2]\nrotate = [0, 5]")
    assert [(one.epochs, one.seed, one.rotate) for one in read_config(file).trials()] == [
        (2, 1, 0), (2, 1, 5), (2, 2, 0), (2, 2, 5)
    ]  # fmt: skip


def test_without_a_sweep_there_is_one_trial() -> None:
    """`mnist-ops experiments sweep` takes any configuration."""
    assert read_config(Path("plain")).trials() == (load_config(Path("plain")),)


def test_an_extending_file_inherits_the_sweep_or_replaces_it(write: Write) -> None:
    """As a whole; an empty table removes it."""
    write("base.toml", "[sweep]\nseed = [1, 2]")
    inherited = write("inherited.toml", 'extend = "base.toml"\nepochs = 2')
    replaced = write("replaced.toml", 'extend = "base.toml"\n[sweep]\nepochs = [1, 2, 3]')
    none = write("none.toml", 'extend = "base.toml"\n[sweep]')
    assert [len(read_config(file).trials()) for file in (inherited, replaced, none)] == [2, 3, 1]


def test_a_change_can_sweep_a_field_or_remove_it_from_the_sweep(write: Write) -> None:
    """Changes win over the file."""
    file = write("a.toml", "[sweep]\nseed = [1, 2]")
    assert [one.epochs for one in read_config(file).changed(["seed=9", "sweep.epochs=[1,2,3]"]).trials()] == [
        1,
        2,
        3,
    ]


def test_a_sweep_is_refused_where_a_single_training_is_expected(write: Write) -> None:
    """All trials but one would be ignored silently."""
    file = write("a.toml", "[sweep]\nseed = [1, 2]")
    assert errors_of(load_config, file) == [
        f"sweep: a single training is expected here, not a sweep ({file})"
    ]


@pytest.mark.parametrize(
    ("sweep", "sentence"),
    [
        ("epochs = [1, 0]", "sweep.epochs: must be greater than or equal to 1; got 0"),
        ("batch = [1, 0]", "sweep.batch: there is no such field; did you mean batch_size?"),
        ("epochs = 3", "sweep.epochs: must be a valid list; got 3"),
        ("epochs = []", "sweep.epochs: List should have at least 1 item after validation, not 0; got []"),
    ],
)
def test_a_wrong_sweep_is_refused_with_its_field_and_file(write: Write, sweep: str, sentence: str) -> None:
    """Once, though several trials have it."""
    file = write("a.toml", f"[sweep]\nseed = [1, 2, 3]\n{sweep}")
    (line,) = errors_of(read_config(file).trials)
    assert line.startswith(sentence)
    assert line.endswith(f" ({file})")


# --- shipped configs


def test_all_shipped_configs_are_valid() -> None:
    """Every name that the messages and the documentation mention."""
    assert set(shipped_configs()) == {"default", "plain", "fast", "kernel-sizes", "classic"}
    assert all(read_config(Path(name)).trials() for name in shipped_configs())


def test_the_config_default_is_the_defaults() -> None:
    """It gives the defaults a name."""
    assert load_config(Path("default")) == TrainingConfig()


def test_plain_is_the_default_without_augmentation() -> None:
    """No other field differs."""
    plain = load_config(Path("plain"))
    assert not augments(plain)
    changed = dict.fromkeys(("rotate", "shear", "zoom", "shift", "elastic"), 0.0)
    assert plain == TrainingConfig(**changed)


def test_kernel_sizes_is_a_sweep_of_four_trials() -> None:
    """Of the network whose kernel sizes can be chosen."""
    trials = read_config(Path("kernel-sizes")).trials()
    assert [trial.kernel_sizes for trial in trials] == [(3, 3), (3, 5), (5, 3), (5, 5)]
    assert {trial.network for trial in trials} == {"conv20-50-500"}


def test_classic_is_the_training_of_pytorchs_mnist_example() -> None:
    """The benchmarks measure against it."""
    classic = load_config(Path("classic"))
    assert (classic.network, classic.optimizer, classic.learning_rate) == ("pytorch-example", "adadelta", 1.0)
    assert (classic.schedule, classic.step_factor, classic.batch_size) == ("step", 0.7, 64)
    assert (classic.averaging, classic.weight_decay, augments(classic)) == (0.0, 0.0, False)


def test_the_shipped_configs_are_in_the_wheel() -> None:
    """An installed package has them too."""
    built = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"mnist_ops/configs/{path.name}" for path in shipped_configs().values()} <= built


# --- the schema


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The published schema."""
    published: dict[str, Any] = json.loads((ROOT / "docs" / "training-config.schema.json").read_text())
    return published


def test_the_published_schema_is_that_of_the_model(schema: dict[str, Any]) -> None:
    """Update it with: mnist-ops config schema > docs/training-config.schema.json."""
    assert schema == config_schema()


def test_every_field_is_described_in_one_line(schema: dict[str, Any]) -> None:
    """Editors show the description."""
    assert set(schema["properties"]) == {*TrainingConfig.model_fields, "extend", "sweep"}
    for field, described in schema["properties"].items():
        assert described["description"].endswith("."), field
        assert "\n" not in described["description"], field


def test_the_schema_names_the_networks_and_the_ranges(schema: dict[str, Any]) -> None:
    """Of single values, and of the values of a sweep."""
    assert schema["properties"]["network"]["enum"] == list(NETWORKS)
    assert schema["properties"]["epochs"].items() >= {"minimum": 1, "maximum": 1000}.items()
    assert schema["properties"]["sweep"]["properties"]["epochs"]["items"]["maximum"] == 1000


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_the_schema_knows_what_the_shipped_configs_write(schema: dict[str, Any], name: str) -> None:
    """An editor marks no error in them."""
    written = read_config(Path(name))
    fields: Sequence[str] = [*written.values, *written.sweep]
    assert set(fields) <= set(schema["properties"])
