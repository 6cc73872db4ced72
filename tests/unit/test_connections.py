"""A connection is read from its variable or from the running embedded stack, and no error shows a secret."""

import json
import traceback
from pathlib import Path

import pytest

from mnist_ops.adapters.mongo.connection import mongo_client
from mnist_ops.connections import read_connection
from mnist_ops.domain.connections import Connection
from mnist_ops.domain.errors import Permanent, UsageError

SECRET = "canary-4f9c"


def write_stack(folder: Path, connections: dict[str, object]) -> None:
    """Write the file of a running embedded stack."""
    document = {"connections": connections, "settings": {}}
    (folder / "stack.json").write_text(json.dumps(document), encoding="utf-8")


def read(text: str, tmp_path: Path, name: str = "mongo_default") -> Connection:
    """Read a connection from its variable."""
    return read_connection(name, {f"AIRFLOW_CONN_{name.upper()}": text}, tmp_path)


EXPECTED = Connection("db.internal", 27018, "mnist", "ada", SECRET, {"tls": "true"})


def test_a_connection_is_read_from_json(tmp_path: Path) -> None:
    """As Airflow writes it; its extra is an object, or JSON in a string."""
    values = {
        "conn_type": "mongo",
        "host": "db.internal",
        "port": 27018,
        "schema": "mnist",
        "login": "ada",
        "password": SECRET,
    }
    assert read(json.dumps(values | {"extra": {"tls": "true"}}), tmp_path) == EXPECTED
    assert read(json.dumps(values | {"extra": '{"tls": "true"}', "port": "27018"}), tmp_path) == EXPECTED


def test_a_connection_is_read_from_a_uri(tmp_path: Path) -> None:
    """As Airflow writes it."""
    assert read(f"mongo://ada:{SECRET}@db.internal:27018/mnist?tls=true", tmp_path) == EXPECTED


def test_percent_encoding_in_a_uri_is_decoded(tmp_path: Path) -> None:
    """Secret keys have slashes and plus signs."""
    where = read(
        "aws://key%2Fid:p%40ss%2F%2B@/?region_name=us-east-1&endpoint_url=http%3A%2F%2Fs3%3A8333",
        tmp_path,
        "aws_default",
    )
    assert (where.login, where.password, where.host) == ("key/id", "p@ss/+", None)
    assert where.extra == {"region_name": "us-east-1", "endpoint_url": "http://s3:8333"}


def test_a_uris_nested_extra_is_read_as_airflow_reads_it(tmp_path: Path) -> None:
    """Airflow writes an extra that is not a flat list of strings into `__extra__`."""
    where = read(
        "aws://id:key@/?__extra__=%7B%22config_kwargs%22%3A+%7B%22s3%22%3A+%7B%22addressing_style%22"
        "%3A+%22path%22%7D%7D%7D",
        tmp_path,
        "aws_default",
    )
    assert where.extra == {"config_kwargs": {"s3": {"addressing_style": "path"}}}


@pytest.mark.parametrize(
    "uri",
    [
        "mongo://ada:pw@db.internal:27018/mnist?tls=true",
        "mongo://db.internal",
        "aws://id:key@",
        "aws://?region_name=x",
        "mongo://db.internal/?empty=",
        # An extra as in docker-compose.yaml.
        "aws://id:key@/?__extra__=%7B%22endpoint_url%22%3A%22http%3A%2F%2Fs3%3A1%22%2C%22config_kwargs%22%3A%7B%7D%7D",
    ],
)
def test_a_uri_means_what_it_means_to_airflow(tmp_path: Path, uri: str) -> None:
    """The DAGs and the command line read the same variables."""
    from airflow.sdk import Connection as AirflowConnection  # noqa: PLC0415 (takes seconds)

    theirs = AirflowConnection.from_uri(uri, conn_id="any")
    mine = read(uri, tmp_path, f"{theirs.conn_type}_default")
    assert (mine.host or "", mine.port, mine.schema or "") == (
        theirs.host or "",
        theirs.port,
        theirs.schema or "",
    )
    assert (mine.login, mine.password) == (theirs.login, theirs.password)
    assert mine.extra == theirs.extra_dejson


def test_without_a_variable_the_running_stack_gives_the_connection(tmp_path: Path) -> None:
    """Nothing has to be copied by hand."""
    write_stack(tmp_path, {"mongo_default": {"host": "127.0.0.1", "port": 27217}})
    assert read_connection("mongo_default", {}, tmp_path) == Connection("127.0.0.1", 27217)


def test_a_variable_comes_before_the_running_stack(tmp_path: Path) -> None:
    """The environment is what a person chose."""
    write_stack(tmp_path, {"mongo_default": {"host": "127.0.0.1"}})
    assert read("mongo://db.internal", tmp_path).host == "db.internal"


def test_with_neither_the_error_names_both_remedies(tmp_path: Path) -> None:
    """The variable, and the embedded stack."""
    with pytest.raises(UsageError, match=r"AIRFLOW_CONN_AWS_DEFAULT.*stack up"):
        read_connection("aws_default", {}, tmp_path)


def test_a_connection_that_the_stack_lacks_is_named_in_the_error(tmp_path: Path) -> None:
    """The error is one of the library's, not a KeyError."""
    write_stack(tmp_path, {"mongo_default": {"host": "127.0.0.1"}})
    with pytest.raises(Permanent, match="other"):
        read_connection("other", {}, tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": {}}'])
def test_a_damaged_stack_file_is_named(tmp_path: Path, text: str) -> None:
    """For example, a full disk truncates it."""
    (tmp_path / "stack.json").write_text(text, encoding="utf-8")
    with pytest.raises(Permanent, match=r"stack\.json"):
        read_connection("mongo_default", {}, tmp_path)


def test_an_empty_variable_is_refused_although_a_stack_runs(tmp_path: Path) -> None:
    """A secret that was not filled in must not lead to another database."""
    write_stack(tmp_path, {"mongo_default": {"host": "127.0.0.1"}})
    with pytest.raises(UsageError, match=r"AIRFLOW_CONN_MONGO_DEFAULT: empty; write it like mongo://"):
        read(" ", tmp_path)


def test_a_uri_of_the_mongodb_client_is_refused_with_airflows_form(tmp_path: Path) -> None:
    """Airflow refuses it too, in the task."""
    with pytest.raises(UsageError, match=r"type mongo; write it like mongo://.*\?srv=true"):
        read("mongodb+srv://db.internal", tmp_path)


@pytest.mark.parametrize(
    "password", ["1234#5678", "1234/5678", "1234?5678", "1234?a=5678", "12@34/5678", "1[2"]
)
@pytest.mark.parametrize("name", ["mongo_default", "aws_default"])
def test_a_password_that_is_not_encoded_is_refused_although_its_start_may_be_a_port(
    tmp_path: Path, password: str, name: str
) -> None:
    """Else its user would be the host, its first digits the port, and errors would show both."""
    with pytest.raises(UsageError, match=r"write / : @ # \? \[ in a user or password as %2F") as raised:
        read(f"{name.partition('_')[0]}://ada:{password}@db.invalid/x", tmp_path, name)
    assert [part for part in ("12", "34", "5678") if f" {part}" in str(raised.value)] == []


@pytest.mark.parametrize(
    "text", ["mongo://127.0.0.1:70000/x", "mongo://ada:pw@db:0/", '{"host": "db", "port": 70000}']
)
def test_a_wrong_port_is_named(tmp_path: Path, text: str) -> None:
    """And passwords are not."""
    with pytest.raises(UsageError, match=r"AIRFLOW_CONN_MONGO_DEFAULT: port: expected .* 1 to 65535$"):
        read(text, tmp_path)


def test_several_hosts_with_ports_are_refused_in_a_uri_with_a_form_that_works(tmp_path: Path) -> None:
    """The form in JSON is read, as Airflow and its hook read it."""
    with pytest.raises(UsageError, match="several hosts with ports are written in JSON: ") as raised:
        read("mongo://ada:pw@a:27017,b:27017/admin?replicaSet=rs0", tmp_path)
    where = read(str(raised.value).partition("JSON: ")[2], tmp_path)
    assert where == Connection("a:27017,b:27017", extra={"replicaSet": "rs0"})
    with mongo_client(where) as client:
        assert client.topology_description.server_descriptions().keys() == {("a", 27017), ("b", 27017)}


def test_a_login_without_a_password_is_taken_with_another_mechanism(tmp_path: Path) -> None:
    """A certificate needs none."""
    where = read("mongo://ada@db/?authMechanism=MONGODB-X509", tmp_path)
    assert (where.login, where.password) == ("ada", None)


def test_a_stack_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """It may belong to another user."""
    (tmp_path / "stack.json").mkdir()
    with pytest.raises(Permanent, match=r"stack\.json: Is a directory; start the embedded stack again"):
        read_connection("mongo_default", {}, tmp_path)


# --- secrets


def test_a_connection_does_not_show_its_secrets() -> None:
    """Neither its password nor its extra, which may hold keys."""
    assert SECRET not in repr(Connection(password=SECRET, extra={"aws_session_token": SECRET}))
    assert SECRET not in str(Connection(password=SECRET, extra={"aws_session_token": SECRET}))


@pytest.mark.parametrize(
    "text",
    [
        f'{{"password": "{SECRET}"',
        f'{{"password": "{SECRET}", }}',
        f'{{"password": "{SECRET}", "port": "{SECRET}"}}',
        f'{{"password": "{SECRET}", "extra": ["{SECRET}"]}}',
        f'{{"password": "{SECRET}", "extra": "{{{SECRET}"}}',
        f"mongo://ada:{SECRET}@db:port{SECRET}/",
        f"mongo://[{SECRET}",
        f"mongo://ada:{SECRET}/x@db",
        f"mongo://ada:{SECRET}@db:0/",
        f"mongo://ada:{SECRET}@/",
        f"mongodb://ada:{SECRET}@db/",
        f"db:27017:{SECRET}",
        f'{{"conn_type": "postgres", "password": "{SECRET}"}}',
        f'{{"host": "db", "password": "{SECRET}", "port": 70000}}',
        f'{{"password": "{SECRET}"}}',
        f"mongo://db/?__extra__={SECRET}",
    ],
)
def test_a_wrong_connection_names_its_variable_and_no_secret(tmp_path: Path, text: str) -> None:
    """Neither in the message nor in the traceback's errors."""
    with pytest.raises(UsageError, match="AIRFLOW_CONN_MONGO_DEFAULT") as raised:
        read(text, tmp_path)
    lines = [
        line for line in traceback.format_exception(raised.value) if "Error" in line or "Permanent" in line
    ]
    assert SECRET not in str(raised.value)
    assert SECRET not in " ".join(line for line in lines if not line.startswith("  File"))
