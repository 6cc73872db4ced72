"""What the settings and connections are now, and where each comes from; without any secret."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from mnist_ops.connections import read_connection, stack_file
from mnist_ops.domain.connections import Connection
from mnist_ops.domain.errors import Permanent
from mnist_ops.local import airflow_server, state
from mnist_ops.local.drift import differences
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import Ports
from mnist_ops.local.ports import variable as port_variable
from mnist_ops.settings import Settings, given_variables, settings_of, stack_settings, variable_of
from mnist_ops.variables import settings_of_stack, text_of, unknown_variables

CONNECTIONS = ("mongo_default", "aws_default")
# Where a value may come from; the first that has one wins.
SOURCES = ENVIRONMENT, STACK, DEFAULT = ("environment", "running stack", "default")
MASK = "***"

# Options of a connection that hold no secret. Of any other one, only the name is shown.
_SHOWN_OPTIONS = frozenset(
    {"authMechanism", "authSource", "directConnection", "readPreference", "region_name", "replicaSet"}
    | {"retryWrites", "srv", "ssl", "tls", "w"}
)
_OPTION = re.compile(r"[A-Za-z_]+")
_DATABASE = re.compile(r"[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class EffectiveValue:
    """A setting as it is now.

    Attributes:
        variable: its environment variable.
        value: as the variable would hold it; empty for none.
        source: one of `SOURCES`.
    """

    variable: str
    value: str
    source: str


def effective_settings(environment: Mapping[str, str]) -> list[EffectiveValue]:
    """Every setting, and every port of the embedded stack."""
    settings = settings_of(environment)
    added, given = stack_settings(environment, settings.local_dir), given_variables(environment)
    values = []
    for name in Settings.model_fields:
        variable, value = variable_of(name), getattr(settings, name)
        text = without_credentials(value) if name == "mlflow_tracking_uri" and value else text_of(value)
        source = ENVIRONMENT if variable in given else STACK if variable in added else DEFAULT
        values.append(EffectiveValue(variable, text, source))
    return values + _ports(environment, settings.local_dir)


def _ports(environment: Mapping[str, str], local_dir: Path) -> list[EffectiveValue]:
    running, given = state.load(Layout(local_dir)), given_variables(environment)
    ports = running.ports if running else Ports.from_environment(environment)
    values = []
    for name in (field.name for field in fields(Ports)):
        set_here = ENVIRONMENT if port_variable(name) in given else DEFAULT
        source = STACK if running else set_here
        values.append(EffectiveValue(port_variable(name), str(getattr(ports, name)), source))
    return values


def ignored_by_stack(environment: Mapping[str, str]) -> list[str]:
    """A warning for each variable of the environment with another value than the running stack has."""
    layout = Layout(settings_of(environment).local_dir)
    running = state.load(layout)
    if running is None:
        return []
    ports, given = Ports.from_environment(environment), given_variables(environment)
    wanted = replace(running, ports=ports, settings=settings_of_stack(environment, ports, layout.root))
    # What is not set here, the command line takes from the stack.
    counted = given.keys() - unknown_variables(environment)
    changed = differences(running, wanted, {airflow_server.NAME})
    return [
        f"{each}; to apply it: `mnist-ops stack down`, then `mnist-ops stack up`"
        for each in changed
        if each.variable in counted
    ]


def connection_facts(name: str, environment: Mapping[str, str], local_dir: Path) -> dict[str, str]:
    """What is known of a connection, by name; secrets are masked.

    A connection that there is not, or that cannot be read, has an `error` only.
    """
    try:
        connection = read_connection(name, environment, local_dir)
    except Permanent as error:
        return {"error": str(error)}
    variable = f"AIRFLOW_CONN_{name.upper()}"
    source = variable if environment.get(variable) else str(stack_file(local_dir))
    return {"source": source, **_masked(connection, is_aws=name == "aws_default")}


def _masked(connection: Connection, *, is_aws: bool) -> dict[str, str]:
    login, schema = connection.login or "", connection.schema or ""
    facts = {
        "host": without_credentials(connection.host or ""),
        "port": text_of(connection.port),
        # A password that is not encoded may be in another place of the URI.
        "database": schema if _DATABASE.fullmatch(schema) else MASK,
        "access key" if is_aws else "user": f"{login[:4]}…" if is_aws and login else login,
        "password": MASK if connection.password else "",
    }
    extra = {name if _OPTION.fullmatch(name) else MASK: value for name, value in connection.extra.items()}
    options = {name: _option(name, value) for name, value in sorted(extra.items())}
    return {name: value for name, value in {**facts, **options}.items() if value}


def _option(name: str, value: object) -> str:
    if name == "endpoint_url":
        return without_credentials(str(value))
    return text_of(value) if name in _SHOWN_OPTIONS and isinstance(value, str | int) else MASK


def without_credentials(address: str) -> str:
    """A URL, or a host, without user, password, query and fragment."""
    scheme, separator, rest = address.rpartition("://")
    authority, *others = re.split(r"[?#]", rest, maxsplit=1)
    if others and "@" in others[0]:
        # Part of a password that is not encoded, or of a token: what is before it may be one too.
        return MASK
    return f"{scheme}{separator}{authority.rpartition('@')[2]}"
