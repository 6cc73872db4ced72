"""The embedded Airflow: `airflow standalone` with LocalExecutor on the embedded PostgreSQL."""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mnist_ops.domain.errors import Permanent
from mnist_ops.local.credentials import Credentials
from mnist_ops.local.layout import Layout, write_private
from mnist_ops.local.ports import HOST, Ports
from mnist_ops.local.readiness import Probe, request
from mnist_ops.local.service import Service, inherited_environment, program

NAME = "airflow"
USER = "admin"
# Tasks at a time; by default 32 workers are forked. A worker can stay busy for some seconds after its task is
# done, so there are more than the tasks of backfills and one live run need. Idle workers cost almost nothing.
WORKERS = 8

_COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Project:
    """The DAGs and plugins that Airflow runs.

    Attributes:
        dags: the folder of the DAG files.
        plugins: the folder of the plugins.
        settings: further environment variables for it and its tasks, such as `MNIST_OPS_*`.
        options: Airflow's, such as `SCHEDULER__MAX_TIS_PER_QUERY`; they override the stack's own.
    """

    dags: Path
    plugins: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


def url(ports: Ports) -> str:
    """Return the address of Airflow's UI and REST API, without a slash at its end."""
    return f"http://{HOST}:{ports.airflow}"


def service(
    layout: Layout,
    ports: Ports,
    credentials: Credentials,
    *,
    project: Project,
    connections: Mapping[str, Mapping[str, object]],
    metadata_uri: str,
) -> Service:
    """Describe Airflow's process, and write the files it reads: the passwords and its `airflow` command.

    The arguments are those of `environment`.
    """
    program("airflow")
    write_private(layout.airflow_passwords_file, json.dumps({USER: credentials.airflow_password}))
    _write_program(layout.airflow_program)
    variables = environment(
        layout, ports, credentials, project=project, connections=connections, metadata_uri=metadata_uri
    )
    command = (str(layout.airflow_program), "standalone")
    return Service(NAME, command, variables, probe(ports), start_timeout_s=300.0)


def environment(
    layout: Layout,
    ports: Ports,
    credentials: Credentials,
    *,
    project: Project,
    connections: Mapping[str, Mapping[str, object]],
    metadata_uri: str,
) -> dict[str, str]:
    """Return all environment variables of Airflow, also of its command line.

    Args:
        layout: where its home folder is.
        ports: where it listens.
        credentials: its password and keys.
        project: DAGs, plugins and settings.
        connections: it gets them as `AIRFLOW_CONN_*`.
        metadata_uri: of its database, for SQLAlchemy.
    """
    inherited = inherited_environment()
    programs = f"{layout.airflow_program.parent}:{Path(sys.executable).parent}"
    return {
        **inherited,
        "PATH": f"{programs}:{inherited.get('PATH', '')}",
        "AIRFLOW_HOME": str(layout.data(NAME)),
        "DO_NOT_TRACK": "1",
        # Airflow's own use of a library, which would be the first line of every task's log.
        "PYTHONWARNINGS": "ignore:GitWildMatchPattern:DeprecationWarning",
        **_options(layout, ports, credentials, project=project, metadata_uri=metadata_uri),
        **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(values) for name, values in connections.items()},
        **project.settings,
    }


def _options(
    layout: Layout, ports: Ports, credentials: Credentials, *, project: Project, metadata_uri: str
) -> dict[str, str]:
    """Return Airflow's options as environment variables."""
    options = {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__DAGS_FOLDER": str(project.dags.absolute()),
        "CORE__PLUGINS_FOLDER": str(project.plugins.absolute()),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "CORE__PARALLELISM": str(WORKERS),
        "CORE__FERNET_KEY": credentials.airflow_fernet_key,
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(layout.airflow_passwords_file),
        "CORE__EXECUTION_API_SERVER_URL": f"{url(ports)}/execution/",
        "DATABASE__SQL_ALCHEMY_CONN": metadata_uri,
        "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        # Runs that the scheduler looks at in each round, live runs first; there are up to five of them. With
        # the default of twenty, ten runs of a backfill make each round take a second on two cores.
        "SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "6",
        # By default a new DAG file is found after five minutes.
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        # With the default of 5, Airflow warns in every task's log of short values such as "path" and "s3v4"
        # in the connection to S3, which are no secrets.
        "LOGGING__MIN_LENGTH_MASKED_SECRET": "4",
        "API__HOST": HOST,
        "API__PORT": str(ports.airflow),
        "API__BASE_URL": url(ports),
        "API__WORKERS": "1",
        "API__SECRET_KEY": credentials.airflow_secret_key,
        "API_AUTH__JWT_SECRET": credentials.airflow_jwt_secret,
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return {f"AIRFLOW__{name}": value for name, value in {**options, **project.options}.items()}


def _write_program(script: Path) -> None:
    """Write the `airflow` command that standalone starts its components with.

    The scheduler and the triggerer each start a log server that listens on every address of the machine, and
    no option changes that. On one machine they are not needed: the API server reads the log files directly.
    """
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(
        "#!/bin/sh\n"
        'case "$1" in scheduler|triggerer) set -- "$@" --skip-serve-logs ;; esac\n'
        f'exec {shlex.quote(sys.executable)} -m airflow "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)


def probe(ports: Ports) -> Probe:
    """Return a probe of whether the API answers and all components of Airflow are healthy."""

    def missing() -> str | None:
        answer = request(f"{url(ports)}/api/v2/monitor/health")
        if answer is None or answer[0] != 200:
            return f"the API at {HOST}:{ports.airflow}"
        health = json.loads(answer[1])
        unhealthy = [name for name in _COMPONENTS if (health.get(name) or {}).get("status") != "healthy"]
        return f"Airflow's {', '.join(unhealthy).replace('_', '-')}" if unhealthy else None

    return missing


def create_pools(ports: Ports, credentials: Credentials, pools: Mapping[str, int]) -> None:
    """Create the missing pools, slots by name; one that exists keeps its slots, which a person may have set.

    Raises:
        Permanent: Airflow refused it.
    """
    login = json.dumps({"username": USER, "password": credentials.airflow_password}).encode()
    answer = request(f"{url(ports)}/auth/token", method="POST", body=login, headers=_JSON)
    if answer is None or answer[0] != 201:
        raise Permanent(f"airflow gave no token to {USER}: {_in_words(answer)}")
    headers = {**_JSON, "Authorization": f"Bearer {json.loads(answer[1])['access_token']}"}
    for name, slots in pools.items():
        _create_pool(f"{url(ports)}/api/v2/pools", headers, name, slots)


def _create_pool(address: str, headers: dict[str, str], name: str, slots: int) -> None:
    # Looked up first: creating a pool that exists leaves a page of traceback in Airflow's log.
    answer = request(f"{address}/{name}", headers=headers)
    if answer is not None and answer[0] == 404:
        pool = json.dumps({"name": name, "slots": slots}).encode()
        answer = request(address, method="POST", body=pool, headers=headers)
    if answer is None or answer[0] not in {200, 201}:
        raise Permanent(f"airflow did not create the pool {name}: {_in_words(answer)}")


def _in_words(answer: tuple[int, bytes] | None) -> str:
    return "no answer" if answer is None else f"{answer[0]} {answer[1][:200].decode(errors='replace')}"
