"""Training configurations in files: what is taken from where, and what is refused with which words."""

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
    load_config,
    read_config,
    shipped_configs,
)
from mnist_ops.vision.config.json_schema import config_schema
from mnist_ops.vision.config.networks import NETWORKS
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.training.augmentation import augments

ROOT = Path(__file__).parents[4]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file; gives its path."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal_of(load: Callable[..., object], *arguments: object) -> list[str]:
    """Return the lines that the command line prints for what is refused."""
    with pytest.raises(ValidationError) as refused:
        load(*arguments)
    return [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in refused.value.errors()]


# --- reading


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", 'epochs = 3\noptimizer = "sgd"\nlearning_rate = 1\nkernel_sizes = [5, 5]'),
        ("a.json", '{"epochs": 3, "optimizer": "sgd", "learning_rate": 1, "kernel_sizes": [5, 5]}'),
    ],
)
def test_a_file_gives_the_fields_that_it_names(write: Write, name: str, text: str) -> None:
    """TOML and JSON alike, by the suffix."""
    assert load_config(write(name, text)) == TrainingConfig(
        epochs=3, optimizer="sgd", learning_rate=1.0, kernel_sizes=(5, 5)
    )


def test_no_file_gives_the_defaults() -> None:
    """Nobody has to write one."""
    assert load_config(None) == TrainingConfig()


@given(st.builds(TrainingConfig, epochs=st.integers(1, 1000), rotate=st.floats(0, 45), patience=st.none()))
def test_a_config_as_json_comes_back_as_it_was(config: TrainingConfig) -> None:
    """What a training notes can be used again."""
    assert config_of_text(config.model_dump_json(), "test").config() == config


def test_an_extending_file_wins_over_the_one_it_extends(write: Write) -> None:
    """And keeps what it says nothing of."""
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


def test_null_in_json_takes_back_what_an_extended_file_says(write: Write) -> None:
    """TOML has no word for it."""
    write("base.toml", "patience = 3")
    assert load_config(write("mine.json", '{"extend": "base.toml", "patience": null}')).patience is None


def test_changes_are_on_top_of_the_file_and_the_last_wins(write: Write) -> None:
    """Values are JSON where they are JSON, else text."""
    file = write("a.toml", "epochs = 3\nseed = 4\npatience = 2")
    changes = ["epochs=5", "optimizer=sgd", "patience=null", "learning_rate=1e-3", "epochs=6"]
    assert load_config(file, changes) == TrainingConfig(
        epochs=6, seed=4, optimizer="sgd", learning_rate=0.001
    )


# --- refusals


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epochs = 0", "epochs: 0 is not allowed: a whole number of at least 1 and at most 1000"),
        ("epochs = 1.5", "epochs: 1.5 is not allowed: a whole number of at least 1 and at most 1000"),
        ('epochs = "3"', 'epochs: "3" is not allowed: a whole number of at least 1 and at most 1000'),
        ("epochs = true", "epochs: true is not allowed: a whole number of at least 1 and at most 1000"),
        ("epochs = []", "epochs: [] is not allowed: a whole number of at least 1 and at most 1000"),
        ("learning_rate = nan", "learning_rate: NaN is not allowed: a number of more than 0 and at most 10"),
        ("momentum = 1", "momentum: 1 is not allowed: a number of at least 0 and less than 1"),
        ("patience = 0", "patience: 0 is not allowed: a whole number of at least 1, or null"),
        ("compile = 1", "compile: 1 is not allowed: true or false"),
        ("seed = 2026-01-31", 'seed: "2026-01-31" is not allowed: a whole number of at least 0 and '),
        ('optimizer = "adamax"', 'optimizer: "adamax" is not allowed: one of adamw, adam, sgd, adadelta'),
        ('network = "lenet"', f'network: "lenet" is not allowed: one of {", ".join(NETWORKS)}'),
        ("network = 5", f"network: 5 is not allowed: one of {', '.join(NETWORKS)}"),
        ("kernel_sizes = [3]", "kernel_sizes: [3] is not allowed: a list of 2, each a whole number of "),
        ("kernel_sizes = [3, 11]", "kernel_sizes: [3, 11] is not allowed: a list of 2, each a whole number "),
        (
            "kernel_sizes = [3, 3]",
            "kernel_sizes: [3, 3] is not allowed: those of lenet5 are (5, 5); they can be chosen for conv20",
        ),
        ("batch = 7", "batch: there is no such field; the nearest is batch_size"),
        ('extends = "plain"', "extends: there is no such field; the nearest is extend"),
        ("sweep = [1]", "sweep: [1] is not allowed: a table of lists"),
        ("extend = 1", "extend: 1 is not allowed: the name of a file"),
    ],
)
def test_a_wrong_value_is_refused_with_field_value_and_what_is_allowed(
    write: Write, text: str, sentence: str
) -> None:
    """And with the file that it came from."""
    file = write("a.toml", text)
    (line,) = refusal_of(load_config, file)
    assert line.startswith(sentence)
    assert line.endswith(f" ({file})")


def test_every_field_says_what_it_allows() -> None:
    """An object is no value of any of them."""
    text = json.dumps({field: {"no": "value"} for field in TrainingConfig.model_fields})
    lines = refusal_of(config_of_text(text, "--config-json").config)
    assert [line.split(":")[0] for line in lines] == list(TrainingConfig.model_fields)
    assert all(
        re.fullmatch(r'\w+: \{"no": "value"\} is not allowed: .{8,} \(--config-json\)', x) for x in lines
    )


def test_every_problem_is_said_at_once_and_with_its_own_file(write: Write) -> None:
    """Of two files, a value that is overruled is no problem."""
    base = write("base.toml", "epochs = 0\nseed = -1")
    mine = write("mine.toml", 'extend = "base.toml"\nseed = -2\nzoom = 9')
    epochs, seed, zoom, shift = sorted(
        refusal_of(load_config, mine, ["shift=x"]),
        key=lambda line: ["epochs", "seed", "zoom", "shift"].index(line.split(":")[0]),
    )
    assert epochs.endswith(f"({base})")
    assert seed.startswith("seed: -2 is not allowed")
    assert seed.endswith(f"({mine})")
    assert zoom.endswith(f"({mine})")
    assert shift == 'shift: "x" is not allowed: a number of at least 0 and at most 8 (--set shift=x)'


def test_a_long_value_is_cut(write: Write) -> None:
    """A line stays one that can be read."""
    (line,) = refusal_of(load_config, write("a.json", json.dumps({"network": "x" * 5000})))
    assert len(line) < 400


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("epochs", 'set: "epochs" is not allowed: field=value'),
        ("epoch=3", "epoch: there is no such field; the nearest is epochs (--set epoch=3)"),
        (
            "sweep.epoch=[3]",
            "sweep.epoch: there is no such field; the nearest is epochs (--set sweep.epoch=[3])",
        ),
        ("=3", ": there is no such field; "),
    ],
)
def test_a_change_of_no_field_is_refused_with_the_nearest(change: str, sentence: str) -> None:
    """A slip of the pen is the likeliest reason."""
    (line,) = refusal_of(load_config, None, [change])
    assert line.startswith(sentence)


def test_a_file_that_extends_itself_is_refused_with_the_chain(write: Write) -> None:
    """By way of others too."""
    first, second = write("a.toml", 'extend = "b.json"'), write("b.json", '{"extend": "a.toml"}')
    (line,) = refusal_of(load_config, first)
    assert line == f"extend: {first} extends {second} extends a.toml: a file cannot extend itself"


def test_a_missing_file_is_refused_with_the_chain(write: Write) -> None:
    """So that people find who names it."""
    file = write("a.toml", 'extend = "gone.toml"')
    assert refusal_of(load_config, file) == [f"extend: {file} extends gone.toml: there is no such file"]


def test_a_name_that_is_no_file_is_refused_with_the_shipped_ones() -> None:
    """A name without a suffix means one of them."""
    (line,) = refusal_of(load_config, Path("quick"))
    assert line.startswith("config: quick: expected a .toml or .json file, or one of classic, default, fast")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.toml", b"epochs = = 3", "not TOML ("),
        ("a.json", b"{", "not JSON ("),
        ("a.json", b"[" * 100_000, "not JSON ("),
        ("a.json", b"[1]", "[1] is not allowed: an object of fields"),
        ("a.toml", b"\xff", "cannot be read ("),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    """Whatever it holds."""
    (tmp_path / name).write_bytes(content)
    (line,) = refusal_of(load_config, tmp_path / name)
    assert line.startswith(f"config: {tmp_path / name}: {problem}")


# --- sweeps in files


def test_a_sweep_in_a_file_gives_its_trials(write: Write) -> None:
    """On top of what the file says otherwise."""
    file = write("a.toml", "epochs = 2\n[sweep]\nseed = [1, 2]\nrotate = [0, 5]")
    assert [(one.epochs, one.seed, one.rotate) for one in read_config(file).trials()] == [
        (2, 1, 0), (2, 1, 5), (2, 2, 0), (2, 2, 5)
    ]  # fmt: skip


def test_without_a_sweep_there_is_one_trial() -> None:
    """A sweep command can be given any config."""
    assert read_config(Path("plain")).trials() == (load_config(Path("plain")),)


def test_an_extending_file_takes_the_sweep_over_or_replaces_it(write: Write) -> None:
    """As a whole; an empty one is none."""
    write("base.toml", "[sweep]\nseed = [1, 2]")
    inherited = write("inherited.toml", 'extend = "base.toml"\nepochs = 2')
    replaced = write("replaced.toml", 'extend = "base.toml"\n[sweep]\nepochs = [1, 2, 3]')
    none = write("none.toml", 'extend = "base.toml"\n[sweep]')
    assert [len(read_config(file).trials()) for file in (inherited, replaced, none)] == [2, 3, 1]


def test_a_change_can_sweep_a_field_or_take_it_out(write: Write) -> None:
    """The command line has the last word."""
    file = write("a.toml", "[sweep]\nseed = [1, 2]")
    assert [one.epochs for one in read_config(file).changed(["seed=9", "sweep.epochs=[1,2,3]"]).trials()] == [
        1,
        2,
        3,
    ]


def test_one_training_is_not_taken_from_a_sweep(write: Write) -> None:
    """Its trials would be left out in silence."""
    file = write("a.toml", "[sweep]\nseed = [1, 2]")
    assert refusal_of(load_config, file) == [f"sweep: one training is wanted here, not a sweep ({file})"]


@pytest.mark.parametrize(
    ("sweep", "sentence"),
    [
        ("epochs = [1, 0]", "sweep.epochs: 0 is not allowed: a whole number of "),
        ("batch = [1, 0]", "sweep.batch: there is no such field; the nearest is batch_size"),
        ("epochs = 3", "sweep.epochs: 3 is not allowed: a list of at least one value"),
        ("epochs = []", "sweep.epochs: [] is not allowed: a list of at least one value"),
    ],
)
def test_a_wrong_sweep_is_refused_with_its_field_and_file(write: Write, sweep: str, sentence: str) -> None:
    """Once, however many trials have it."""
    file = write("a.toml", f"[sweep]\nseed = [1, 2, 3]\n{sweep}")
    (line,) = refusal_of(read_config(file).trials)
    assert line.startswith(sentence)
    assert line.endswith(f" ({file})")


# --- shipped configs


def test_the_shipped_configs_are_all_good() -> None:
    """Every name that the messages and the manual mention."""
    assert set(shipped_configs()) == {"default", "plain", "fast", "kernel-sizes", "classic"}
    assert all(read_config(Path(name)).trials() for name in shipped_configs())


def test_default_is_the_defaults() -> None:
    """A name for what nobody has to name."""
    assert load_config(Path("default")) == TrainingConfig()


def test_plain_is_the_default_without_augmentation() -> None:
    """Nothing else differs."""
    plain = load_config(Path("plain"))
    assert not augments(plain)
    changed = dict.fromkeys(("rotate", "shear", "zoom", "shift", "elastic"), 0.0)
    assert plain == TrainingConfig(**changed)


def test_kernel_sizes_are_four_trials_of_the_network_that_has_them_chosen() -> None:
    """The example of a sweep."""
    trials = read_config(Path("kernel-sizes")).trials()
    assert [trial.kernel_sizes for trial in trials] == [(3, 3), (3, 5), (5, 3), (5, 5)]
    assert {trial.network for trial in trials} == {"conv20-50-500"}


def test_classic_is_the_training_of_the_tutorials() -> None:
    """What others are measured against."""
    classic = load_config(Path("classic"))
    assert (classic.network, classic.optimizer, classic.learning_rate) == ("pytorch-example", "adadelta", 1.0)
    assert (classic.schedule, classic.step_factor, classic.batch_size) == ("step", 0.7, 64)
    assert (classic.averaging, classic.weight_decay, augments(classic)) == (0.0, 0.0, False)


def test_the_shipped_configs_are_in_the_wheel() -> None:
    """Whoever installs the package has them too."""
    built = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"mnist_ops/configs/{path.name}" for path in shipped_configs().values()} <= built


# --- the schema


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The published schema."""
    published: dict[str, Any] = json.loads((ROOT / "docs" / "training-config.schema.json").read_text())
    return published


def test_the_published_schema_is_that_of_the_model(schema: dict[str, Any]) -> None:
    """Write it anew with: mnist-ops config schema > docs/training-config.schema.json."""
    assert schema == config_schema()


def test_every_field_is_described_in_one_line(schema: dict[str, Any]) -> None:
    """For editors and for people."""
    assert set(schema["properties"]) == {*TrainingConfig.model_fields, "extend", "sweep"}
    for field, described in schema["properties"].items():
        assert described["description"].endswith("."), field
        assert "\n" not in described["description"], field


def test_the_schema_names_the_networks_and_the_ranges(schema: dict[str, Any]) -> None:
    """Of single values and of a sweep's."""
    assert schema["properties"]["network"]["enum"] == list(NETWORKS)
    assert schema["properties"]["epochs"].items() >= {"minimum": 1, "maximum": 1000}.items()
    assert schema["properties"]["sweep"]["properties"]["epochs"]["items"]["maximum"] == 1000


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_the_schema_knows_what_the_shipped_configs_write(schema: dict[str, Any], name: str) -> None:
    """An editor underlines none of it."""
    written = read_config(Path(name))
    fields: Sequence[str] = [*written.values, *written.sweep]
    assert set(fields) <= set(schema["properties"])
