"""What people do wrong at the command line: each is one line, which says what to do, and an exit code.

Texts in angle brackets, such as <dead>, are the ports of servers on 127.0.0.1 (`hostile_servers.py`).
"""

import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mnist_ops import wiring
from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.cli import main
from mnist_ops.domain.keys import Generation
from tests.support.hostile_servers import hostile_servers
from tests.support.small_runs import SmallRuns

MONGO, AWS = "AIRFLOW_CONN_MONGO_DEFAULT", "AIRFLOW_CONN_AWS_DEFAULT"
SECRET = "canary-4f9c"
# A bundle in S3: a command that needs no MongoDB.
BUNDLE = f"predict --bundle s3://bucket/models/lenet5/000001-{'a' * 64} x.png"


@dataclass(frozen=True)
class Wrong:
    """One wrong usage.

    Attributes:
        command: what is typed after `mnist-ops`.
        code: the exit code.
        words: what the line has.
        environment: variables that are set.
    """

    command: str
    code: int
    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([*(f"{name}={value}" for name, value in self.environment.items()), self.command])


def wrong(command: str, *words: str, code: int = 2, **environment: str) -> Wrong:
    """A wrong usage; by default one that exits with 2."""
    return Wrong(command, code, words, environment)


def mongo(text: str, *words: str, code: int = 2) -> Wrong:
    """A wrong connection to MongoDB, as a command that reads a ledger reports it."""
    return wrong("runs list", *words, code=code, **{MONGO: text})


def mongo_at(port: str, *words: str, code: int, options: str = "") -> Wrong:
    """A connection to a server that is no good MongoDB; a silent one gets less time."""
    timeout_ms = 300 if port == "silent" else 1500
    uri = f"mongo://ada:{SECRET}@127.0.0.1:<{port}>/?serverSelectionTimeoutMS={timeout_ms}{options}"
    return mongo(uri, *words, code=code)


def aws(text: str, *words: str, code: int = 2) -> Wrong:
    """A wrong connection to S3, as a command that reads a bundle reports it."""
    return wrong(BUNDLE, *words, code=code, **{AWS: text})


def aws_at(port: str, *words: str, code: int, scheme: str = "http") -> Wrong:
    """A connection to a server that is no good S3; a silent one gets less time."""
    timeout_s = 0.3 if port == "silent" else 20
    config = {
        "retries": {"total_max_attempts": 1},
        "read_timeout": timeout_s,
        "s3": {"addressing_style": "path"},
    }
    extra = {
        "endpoint_url": f"{scheme}://127.0.0.1:<{port}>",
        "region_name": "us-east-1",
        "config_kwargs": config,
    }
    return aws(json.dumps({"login": "key", "password": SECRET, "extra": extra}), *words, code=code)


ARGUMENTS = [
    wrong("nonsense", "No such command 'nonsense'", "There are: init, watch, predict"),
    wrong("ledgers", "No such command 'ledgers'", "Did you mean `runs list`?"),
    wrong("runs clasify", "No such command 'clasify'", "Did you mean `runs classify`?"),
    wrong("--nonsense", "No such option: --nonsense", "see `mnist-ops --help`"),
    wrong("-v -q runs list", "--verbose and --quiet", "give one of them"),
    wrong("runs classify --limitt 5", "No such option: --limitt", "--limit)"),
    wrong(
        "runs classify extra", "unexpected extra argument", "extra", "see `mnist-ops runs classify --help`"
    ),
    wrong("runs classify --limit 0", "--limit 0: must be greater than or equal to 1", "classify --help"),
    wrong("runs classify --limit many", "--limit many: must be a valid integer"),
    wrong("runs classify --since", "'--since' requires an argument"),
    wrong(
        "runs classify --since tomorrow", "--since: 'tomorrow'", "write it like 2026-01-31", "'3 days ago'"
    ),
    wrong("runs classify --until 31.01.2026", "--until: '31.01.2026'", "write it like 2026-01-31"),
    wrong(
        "runs classify --since 1d --until 2d",
        "--since: ",
        " is not before --until: ",
        "give an earlier --since",
    ),
    wrong("steps snapshot --since 2026-13-01", "--since: '2026-13-01'", "write it like 2026-01-31"),
    wrong(
        "runs classify --reclassify sometimes", "--reclassify: 'sometimes' is unknown", "give one of never"
    ),
    wrong("runs classify --since 2999-01-01", "--since: 2999-01-01T", " is not before now, 20"),
    wrong("runs classify --reclassify failed:x", "'x' is unknown; `mnist-ops records list --help` lists the"),
    wrong("runs list -v", "No such option: -v; it comes before the command: `mnist-ops -v runs list …`"),
    wrong("runs --quiet list", "it comes before the command: `mnist-ops --quiet runs …`"),
    wrong("runs classify --reclassify failed:not_fond", "'not_fond' is unknown", "did you mean not_found?"),
    wrong("predict", "Missing argument 'files'", "see `mnist-ops predict --help`"),
    wrong("predict --bundle /no/such x.png", "--bundle /no/such: no folder with a card.json"),
    wrong("predict --bundle s3://b/latest x.png", "--bundle s3://b/latest: expected a URI as `models show`"),
    wrong("models show", "Missing argument 'version'", "see `mnist-ops models show --help`"),
    wrong("models show latest", "version latest: must be a valid integer"),
    wrong("models show 0", "version 0: must be greater than or equal to 1"),
    wrong("models promote 1", "Missing option '--why'", "see `mnist-ops models promote --help`"),
    wrong("runs release-hold dag/run", "Missing option '--why'"),
    wrong("runs release-hold dag/run --why x --generation -1", "--generation -1: must be greater than or"),
    wrong("records list --reason not_fond", "--reason not_fond: did you mean not_found?"),
    wrong("records list --reason zzz", "--reason zzz: unknown", "see `mnist-ops records list --help`"),
    wrong("records list --outcome lost", "--outcome lost: not one of predicted, quarantined, retry_later"),
    wrong("records show", "Missing argument 'ID'", "see `mnist-ops records show --help`"),
    wrong("airflow dags list", "no embedded stack runs in ", "start it with `mnist-ops stack up`"),
    wrong("experiments tensorboard --port 0", "--port 0: must be greater than or equal to 1"),
    wrong("experiments tensorboard --port 65536", "--port 65536: must be less than or equal to 65535"),
    wrong("config show --config /no/such.toml", "error: --config: /no/such.toml: there is no such file"),
    wrong(
        "config show --config lenett", "error: --config: lenett: expected a .toml or .json file, or one of "
    ),
    wrong("config show --set epochs", 'error: --set: expected field=value; got "epochs"'),
    wrong("config show --set epoch=3", "epoch: there is no such field; did you mean epochs?"),
    wrong("config show --set lr=fast", "`mnist-ops config schema` lists the fields (--set lr=fast)"),
    wrong("config show --set epochs=0", "epochs: must be greater than or equal to 1; got 0 (--set epochs=0)"),
    wrong("steps train --dataset s3://b/d.json --config-json {", "error: --config-json: not JSON"),
    wrong("steps train --dataset x --config x --config-json {}", "--config and --config-json cannot both be"),
]

SETTINGS = [
    wrong(
        "runs list", "MNIST_OPS_MODEL_NAME: 'Lenet 5': expected lower-case", MNIST_OPS_MODEL_NAME="Lenet 5"
    ),
    wrong("runs list", "MNIST_OPS_S3_PREFIX: '/a/': expected letters", MNIST_OPS_S3_PREFIX="/a/"),
    wrong("runs list", "MNIST_OPS_S3_BUCKET: 'x': expected 3 to 63", MNIST_OPS_S3_BUCKET="x"),
    wrong(
        "runs list",
        "MNIST_OPS_FAILURE_BUDGET: expected a number from 0 to 1, such as 0.2",
        MNIST_OPS_FAILURE_BUDGET="20%",
    ),
    wrong("runs list", "MNIST_OPS_REVIEW_BELOW: expected a number from 0 to 1", MNIST_OPS_REVIEW_BELOW="20"),
    wrong("runs list", "MNIST_OPS_DEVICE: must be 'auto', 'cpu' or 'cuda'", MNIST_OPS_DEVICE="tpu"),
    wrong(
        "runs list", "MNIST_OPS_RECORDS_PER_PART: must be a valid integer", MNIST_OPS_RECORDS_PER_PART=SECRET
    ),
    wrong("runs list", "MNIST_OPS_TRACKERS: must be 'console', 'tens", MNIST_OPS_TRACKERS="wandb"),
    wrong(
        "runs list",
        "MNIST_OPS_MONGO_DATABASE: expected up to 63",
        MNIST_OPS_MONGO_DATABASE=f"x://a:{SECRET}@b",
    ),
    wrong("runs list", "MNIST_OPS_MONGO_COLLECTION: 'a..b': expected", MNIST_OPS_MONGO_COLLECTION="a..b"),
    wrong(
        "runs list", "ALLOWED_HOSTS: 'images': expected host:port, such as", MNIST_OPS_ALLOWED_HOSTS="images"
    ),
    wrong(
        "stack status", "MNIST_OPS_PORT_MONGO=http: expected a port, 1 to 65535", MNIST_OPS_PORT_MONGO="http"
    ),
]

CONNECTIONS = [
    wrong("runs list", "no connection mongo_default: set AIRFLOW_CONN_MONGO_DEFAULT", "`mnist-ops stack up`"),
    wrong(BUNDLE, "no connection aws_default: set AIRFLOW_CONN_AWS_DEFAULT", "`mnist-ops stack up`"),
    mongo("", f"{MONGO}: empty; write it like mongo://user:password@host", "or unset it"),
    mongo(
        f"db:27017:{SECRET}", f"{MONGO}: neither a JSON object nor a URI such as mongo://user:password@host"
    ),
    mongo(
        f"mongo://ada:{SECRET}/x@db", f"{MONGO}: not a URI such as mongo://", "write / : @ # ? [ in a user"
    ),
    mongo(f"mongo://ada:1234#{SECRET}@db.invalid/x", f"{MONGO}: not a URI such as mongo://", "write / : @ #"),
    mongo(f"mongo://ada:1234/{SECRET}@db.invalid/x", f"{MONGO}: not a URI such as mongo://", "write / : @ #"),
    mongo("mongo://127.0.0.1:70000/x", f"{MONGO}: port: expected a number from 1 to 65535"),
    mongo(f"mongo://ada:{SECRET}@a:1,b:2/x", f"{MONGO}: several hosts with ports are written in JSON: "),
    mongo(f'{{"password": "{SECRET}", }}', f"{MONGO}: not valid JSON at column "),
    mongo('{"conn_type": "postgres", "host": "db"}', f"{MONGO}: mongo_default must be of the type mongo"),
    mongo(f"mongodb+srv://ada:{SECRET}@db", "must be of the type mongo", "is written with ?srv=true"),
    mongo(f"mongo://ada:{SECRET}@/admin", f"{MONGO}: names no host; write it like mongo://"),
    mongo("mongo://ada@db/admin", f"{MONGO}: has a login but no password; write it like mongo://"),
    mongo(f'{{"host": "db", "port": "{SECRET}"}}', f"{MONGO}: port: expected a number from 1 to 65535"),
    mongo(f'{{"host": "db", "extra": "{SECRET}"}}', f"{MONGO}: its extra is not a JSON object"),
    mongo("mongo://db/?nonsense=true", "mongo_default: Unknown option: nonsense"),
    mongo(
        "mongo://db/?tls=perhaps", "mongo_default: The value of tls must be 'true' or 'false'; correct its"
    ),
    mongo_at(
        "dead", "mongo_default (127.0.0.1:<dead>): connection refused; is the", "`mnist-ops stack up`", code=4
    ),
    mongo_at("silent", "mongo_default (127.0.0.1:<silent>): no answer in time; is the address right", code=4),
    mongo_at("closing", "mongo_default (127.0.0.1:<closing>): the server closed the connection", code=4),
    mongo_at("web", "mongo_default (127.0.0.1:<web>): not a MongoDB server; correct the port", code=3),
    mongo_at("web", "(127.0.0.1:<web>): the server does not speak TLS; correct", code=3, options="&tls=true"),
    mongo_at("wrong-password", "mongo_default: wrong user or password; correct login and password", code=3),
    mongo(
        "mongo://db.invalid/?serverSelectionTimeoutMS=1500",
        "(db.invalid:27017): unknown host; correct",
        code=4,
    ),
    aws("s3://bucket", f"{AWS}: aws_default must be of the type aws; write it like aws://key:secret@/"),
    aws("aws://key@/?region_name=x", "aws_default: needs both a login (the access key) and a password"),
    aws("aws:///?region_name=us-east-1", "no credentials; give the connection to S3 a login", code=4),
    aws(
        f"aws://key:{SECRET}@/?endpoint_url=s3:8333", "aws_default: endpoint_url is not a URL such as http://"
    ),
    aws(f"aws://key:{SECRET}@/?region_name=no%20region", "aws_default: Provided region_name 'no region'"),
    aws(
        f'{{"extra": {{"config_kwargs": {{"x": "{SECRET}"}}}}}}',
        "unexpected keyword argument 'x'; correct the",
    ),
    aws_at("dead", "S3 (127.0.0.1:<dead>): connection refused; is the server running?", code=4),
    aws_at("silent", "S3 (127.0.0.1:<silent>): no answer in time; is the address right", code=4),
    aws_at("closing", "S3 (127.0.0.1:<closing>): the server closed the connection", code=4),
    aws_at("web", "(127.0.0.1:<web>): the server does not speak TLS", code=3, scheme="https"),
    aws_at("redirecting", "s3://bucket/", "a web server answers, not S3; correct endpoint_url", code=3),
    aws_at("no-bucket", "s3://bucket/", "no such bucket; create it (`mnist-ops init`), or correct", code=3),
    aws_at("wrong-key", "s3://bucket/", "the access key is unknown; correct the login", code=3),
    aws_at("wrong-secret", "s3://bucket/", "the secret key is wrong; correct the password", code=3),
    aws_at("expired", "s3://bucket/", "the credentials have expired; renew the keys", code=4),
]

# On stores in memory that hold one run, of no record.
NAMES = [
    wrong("runs show nope", "no run 'nope'; the nearest are: dag/run"),
    wrong("runs show dag/run --generation 7", "dag/run: has no generation 7; there are: 0"),
    wrong("runs list nope", "no run 'nope'; the nearest are: dag/run"),
    wrong("runs release-hold dag/run --why x", "dag/run, generation 0: finished, and not over its failure"),
    wrong("records show nope", "no record nope in mnist.records"),
    wrong("models show 99", "lenet5 has no version 99; released are: none"),
    wrong("runs release-hold nope --why x", "no run 'nope'; the nearest are: dag/run"),
    wrong("gc --older-than soon", "--older-than soon: expected days, such as 30d"),
    wrong("steps fetch memory://objects/manifest.json", "not a part, expected <manifest uri>#<number>"),
    wrong("experiments show nope", "no experiment 'nope'; no training has been tracked in ", "sqlite yet"),
    wrong("models rollback --why x", "lenet5: there is no former champion to roll back to", code=3),
]


@pytest.fixture(autouse=True)
def no_network() -> None:
    """In place of the fixture that forbids sockets: this process has servers, also between tests."""


@pytest.fixture(scope="module")
def ports() -> Iterator[Mapping[str, int]]:
    """The ports of the servers."""
    with hostile_servers() as ports:
        yield ports


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line is connected to stores in memory."""
    runs = SmallRuns(InMemoryObjects(), InMemoryRecords())
    runs.run(Generation("dag/run"))
    monkeypatch.setattr(wiring, "adapters_of_environment", lambda *_: runs.steps().adapters)


def check(case: Wrong, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the command line as a shell does, and hold it against the case."""
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["mnist-ops", *shlex.split(case.command)])
    with pytest.raises(SystemExit) as exited:
        main()
    printed = capsys.readouterr()
    assert (exited.value.code, printed.out) == (case.code, ""), printed.err
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert [words for words in case.words if words not in line] == [], line
    assert "Traceback" not in line
    assert SECRET not in line
    assert len(line.replace("a" * 64, "")) < 225  # without a digest


@pytest.fixture(autouse=True)
def nothing_is_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No stack runs, and boto3 finds no keys on this machine."""
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path / "no stack"))
    monkeypatch.setenv("MNIST_OPS_TRAINING_DIR", str(tmp_path / "no training"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.mark.parametrize("case", ARGUMENTS, ids=str)
def test_a_wrong_argument_is_one_line(
    case: Wrong, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the argument, and nothing is connected to."""
    check(case, monkeypatch, capsys)


@pytest.mark.parametrize("case", SETTINGS, ids=str)
def test_a_wrong_setting_is_one_line(
    case: Wrong, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the variable, and says in words what is allowed."""
    check(case, monkeypatch, capsys)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("case", CONNECTIONS, ids=str)
def test_a_wrong_connection_is_one_line(
    case: Wrong,
    ports: Mapping[str, int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It names the variable, or the server and its address, and shows no secret."""
    check(with_ports(case, ports), monkeypatch, capsys)


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize("case", NAMES, ids=str)
def test_a_name_of_nothing_is_one_line(
    case: Wrong, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what there is, or how to get it."""
    check(case, monkeypatch, capsys)


def with_ports(case: Wrong, ports: Mapping[str, int]) -> Wrong:
    """The case with the servers' real ports."""

    def filled(text: str) -> str:
        for name, port in ports.items():
            text = text.replace(f"<{name}>", str(port))
        return text

    environment = {name: filled(value) for name, value in case.environment.items()}
    return Wrong(case.command, case.code, tuple(map(filled, case.words)), environment)


@pytest.mark.timeout(60)
def test_a_mongodb_that_does_not_answer_is_reported_within_ten_seconds(
    ports: Mapping[str, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """PyMongo would wait for 30 s, and for an election later on it does."""
    start = time.monotonic()
    case = mongo(
        "mongo://127.0.0.1:<silent>", "mongo_default (127.0.0.1:<silent>): no answer in time", code=4
    )
    check(with_ports(case, ports), monkeypatch, capsys)
    assert time.monotonic() - start < 10


def test_two_wrong_settings_are_two_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All problems at once."""
    monkeypatch.setenv("MNIST_OPS_DEVICE", "tpu")
    monkeypatch.setenv("MNIST_OPS_THREADS", "0")
    monkeypatch.setattr(sys, "argv", ["mnist-ops", "runs", "list"])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: MNIST_OPS_DEVICE: must be 'auto', 'cpu' or 'cuda'",
        "error: MNIST_OPS_THREADS: must be greater than or equal to 1",
    ]


def test_a_damaged_file_of_the_stack_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """For example, a full disk truncates it."""
    (tmp_path / "stack.json").write_text("{", encoding="utf-8")
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path))
    check(
        wrong("runs list", "stack.json: damaged", "start the embedded stack again", code=3),
        monkeypatch,
        capsys,
    )


def test_the_tables_have_at_least_forty_wrong_usages() -> None:
    """No two of them are the same."""
    assert len({str(case) for case in [*ARGUMENTS, *SETTINGS, *CONNECTIONS, *NAMES]}) >= 40
