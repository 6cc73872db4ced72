"""The `MNIST_OPS_*` variables: which there are, and what is set by them."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from mnist_ops.local.ports import HOST, Ports
from mnist_ops.local.ports import variable as port_variable
from mnist_ops.settings import PREFIX, Settings, given_variables, variable_of

# docker-compose.yaml reads these, as the values of Airflow's own AIRFLOW_CONN_* variables.
_OF_COMPOSE = frozenset({"MNIST_OPS_MONGO_CONN", "MNIST_OPS_AWS_CONN"})


_NOT_OF_THE_STACK = frozenset({"local_dir", "serve_token"})


def known_variables() -> frozenset[str]:
    """Every variable that the project reads."""
    settings = {variable_of(name) for name in Settings.model_fields}
    return frozenset(settings | {port_variable(field.name) for field in fields(Ports)} | _OF_COMPOSE)


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """A warning for each variable of the environment that looks like a setting and is none, by its name."""
    known = known_variables()
    return {name: _warning(name, known) for name in sorted(given_variables(environment)) if name not in known}


def _warning(name: str, known: frozenset[str]) -> str:
    # Without the prefix, which is equal in all of them.
    rest = {each.removeprefix(PREFIX): each for each in known}
    nearest = difflib.get_close_matches(name.removeprefix(PREFIX), rest, n=1)
    hint = f"did you mean {rest[nearest[0]]}?" if nearest else "`mnist-ops settings` lists all settings"
    return f"{name} is not a setting and has no effect: {hint}"


def changed_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of the environment that differ from their defaults, by variable.

    Equal settings have equal texts: lists are sorted, numbers are written in one way, and paths are absolute.
    The folder of the embedded stack itself is left out, and so is a secret, which the stack does not use.

    Raises:
        pydantic.ValidationError: a value is wrong.
    """
    given, known = given_variables(environment), Settings.model_fields
    # With a value for every setting, the environment of this process does not count.
    arguments = {name: given.get(variable_of(name), field.default) for name, field in known.items()}
    settings = Settings(**arguments)
    values = {name: _absolute(getattr(settings, name)) for name in known if variable_of(name) in given}
    return {
        variable_of(name): text_of(value)
        for name, value in values.items()
        if name not in _NOT_OF_THE_STACK and value != known[name].default
    }


def settings_of_stack(environment: Mapping[str, str], ports: Ports, root: Path) -> dict[str, str]:
    """The settings that an embedded stack is started with, by variable: what its tasks get.

    Args:
        environment: of the command that starts it.
        ports: of the stack. Its image server has a loopback address, which is refused unless it is listed.
        root: the folder of the stack, an absolute path: its tasks run in other folders.
    """
    settings = {name: given_variables(environment)[name] for name in unknown_variables(environment)}
    settings |= changed_settings(environment)
    hosts, training_dir = variable_of("allowed_hosts"), variable_of("training_dir")
    listed = {host for host in settings.get(hosts, "").split(",") if host}
    settings[hosts] = ",".join(sorted(listed | {f"{HOST}:{ports.images}"}))
    settings.setdefault(training_dir, str(root / "training"))
    return settings


def _absolute(value: object) -> object:
    return value.absolute() if isinstance(value, Path) else value


def text_of(value: object) -> str:
    """The text of a setting's value as a variable would hold it; empty for None."""
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
