"""What the clients of MongoDB and S3 report becomes one line that says what to do, without a secret."""

import errno
import traceback
from dataclasses import replace
from types import SimpleNamespace

import dns.exception
import dns.resolver
import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from mnist_ops.adapters.mongo.connection import Mongo, made_client, mongo_client
from mnist_ops.adapters.mongo.errors import translate as of_mongo
from mnist_ops.adapters.s3.connection import s3_client, wrong_connections
from mnist_ops.adapters.s3.errors import translate as of_s3
from mnist_ops.domain.connections import Connection
from mnist_ops.domain.errors import Permanent, Transient, UsageError

SECRET = "canary-4f9c"
KEYS = {"login": "key", "password": SECRET}


def selection_timeout(cause: str, *servers: tuple[str, int]) -> ServerSelectionTimeoutError:
    """What PyMongo 4 raises when no server can be reached."""
    described = ", ".join(
        f"<ServerDescription {server} server_type: Unknown, rtt: None>" for server in servers
    )
    return ServerSelectionTimeoutError(
        f"{cause}, Timeout: 5.0s, Topology Description: <TopologyDescription id: 6b, topology_type: Unknown, "
        f"servers: [{described}]>"
    )


REFUSED = "db:27017: [Errno 111] Connection refused (configured timeouts: connectTimeoutMS: 20000.0ms)"


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (
            selection_timeout(REFUSED, ("db", 27017)),
            Transient,
            "mongo_default (db:27017): connection refused; is the server running?",
        ),
        (
            selection_timeout(f"{REFUSED},{REFUSED.replace('db', 'dc')}", ("db", 27017), ("dc", 27017)),
            Transient,
            "mongo_default (db:27017, dc:27017): connection refused; is the server running?",
        ),
        (
            selection_timeout("No servers found yet", ("db", 27017)),
            Transient,
            "mongo_default (db:27017): no answer in time; is the address right, and does the server run?",
        ),
        (
            selection_timeout("Got response id 808464928 but expected 13", ("db", 80)),
            Permanent,
            "mongo_default (db:80): not a MongoDB server; correct the port in the connection",
        ),
        (
            AutoReconnect("db:27017: connection closed (configured timeouts: connectTimeoutMS: 20000.0ms)"),
            Transient,
            "mongo_default (db:27017): the server closed the connection; does only one side use TLS?",
        ),
        (
            NotPrimaryError("not primary, full error: {'ok': 0.0}", {"ok": 0.0}),
            Transient,
            "mongo_default: not primary",
        ),
        (
            OperationFailure("Authentication failed., full error: {'ok': 0.0}", 18, {"errmsg": "no"}),
            Permanent,
            (
                "mongo_default: wrong user or password; correct login and password of the connection, "
                "or its schema"
            ),
        ),
        (
            OperationFailure("not authorized on mnist, full error: {'ok': 0.0}", 13),
            Permanent,
            "mongo_default: not authorized on mnist; give its user the role readWrite on the database",
        ),
        (
            OperationFailure("a\nb, full error: {'ok': 0.0}", 2),
            Permanent,
            "mongo_default refused: a b",
        ),
    ],
)
def test_an_error_of_mongodb_is_one_line(error: PyMongoError, kind: type, line: str) -> None:
    """Without PyMongo's description of all servers, and without the server's whole answer."""
    translated = of_mongo(error, "mongo_default")
    assert (type(translated), str(translated)) == (kind, line)


def test_a_configuration_that_mongodb_cannot_use_is_wrong_usage() -> None:
    """Such as an SRV name that does not exist."""
    assert isinstance(of_mongo(ConfigurationError("The DNS query name does not exist")), UsageError)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (Connection("db", extra={"nonsense": "true"}, name="mongo_default"), "Unknown option: nonsense"),
        (Connection("db", extra={"tls": "perhaps"}, name="mongo_default"), "tls must be 'true' or 'false'"),
        (Connection("db", 27017, "a b", name="mongo_default"), 'Bad database name "a b"'),
        (
            Connection("db", extra={"tlsCAFile": "/none"}, name="mongo_default"),
            "options (tlsCAFile) is wrong",
        ),
        (
            Connection("db", extra={"readPreference": SECRET}, name="mongo_default"),
            "options (readPreference) is wrong",
        ),
    ],
)
def test_a_connection_that_mongodbs_client_refuses_is_wrong_usage(where: Connection, words: str) -> None:
    """The client's own words are kept unless they may hold a secret."""
    with pytest.raises(UsageError, match=r"^mongo_default: ") as raised:
        mongo_client(where)
    assert words in str(raised.value)
    assert SECRET not in "".join(traceback.format_exception(raised.value)).replace(repr(where), "")


SRV = Connection("cluster.example.net", **KEYS, extra={"srv": True}, name="mongo_default")


@pytest.fixture
def dns_error(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dns.exception.DNSException:
    """The resolver raises this for every name."""
    error: dns.exception.DNSException = request.param

    def resolve(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(dns.resolver, "resolve", resolve)
    return error


TIMED_OUT = dns.resolver.LifetimeTimeout(timeout=20.0, errors=[])
ALL_FAILED = dns.resolver.NoNameservers(
    request=SimpleNamespace(question=["_mongodb._tcp.cluster.example.net. IN SRV"]),
    errors=[("10.0.0.2", False, 53, "SERVFAIL", None)],
)


@pytest.mark.parametrize("dns_error", [TIMED_OUT, ALL_FAILED], ids=["time-out", "SERVFAIL"], indirect=True)
@pytest.mark.parametrize("connect", [True, False])
def test_an_outage_of_dns_may_pass(dns_error: dns.exception.DNSException, connect: bool) -> None:
    """Whether the client looks the servers up when it is made, or at its first call."""
    with pytest.raises(Transient, match="mongo_default: DNS did not answer for its address: ") as raised:
        translated_ping(connect=connect)
    assert str(dns_error).strip() in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "dns_error",
    [dns.resolver.NXDOMAIN(), dns.resolver.NoAnswer()],
    ids=["no name", "no record"],
    indirect=True,
)
@pytest.mark.parametrize("connect", [True, False])
@pytest.mark.usefixtures("dns_error")
def test_an_address_that_dns_does_not_have_is_wrong_usage(connect: bool) -> None:
    """A name that does not exist, or one without an SRV record."""
    with pytest.raises(UsageError, match=r"^mongo_default: "):
        translated_ping(connect=connect)


def translated_ping(*, connect: bool) -> None:
    """Connect to the servers of an SRV address."""
    client = mongo_client(replace(SRV, extra={**SRV.extra, "connect": connect}))
    try:
        client.admin.command("ping")
    except PyMongoError as error:
        raise of_mongo(error, "mongo_default") from error


def test_a_failure_of_the_operating_system_may_pass() -> None:
    """Only a file that is not there or cannot be used is the connection's fault."""

    def make() -> Mongo:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(Transient, match=r"^mongo_default: Too many open files$"):
        made_client(make, Connection("db", name="mongo_default"))


def s3_error(code: str, status: int, content_type: str = "application/xml") -> ClientError:
    """An answer of S3 with an error."""
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": {"content-type": content_type}}
    answer = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": metadata}
    return ClientError(answer, "GetObject")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (s3_error("InvalidAccessKeyId", 403), Permanent, "the access key is unknown; correct the login"),
        (s3_error("SignatureDoesNotMatch", 403), Permanent, "the secret key is wrong; correct the password"),
        (s3_error("AccessDenied", 403), Permanent, "access denied; allow it for the access key"),
        (s3_error("NoSuchBucket", 404), Permanent, "no such bucket; create it (`mnist-ops init`)"),
        (s3_error("PermanentRedirect", 301), Permanent, "another region; correct region_name"),
        (s3_error("ExpiredToken", 400), Transient, "the credentials have expired; renew the keys"),
        (s3_error("404", 404, "text/html"), Permanent, "a web server answers, not S3; correct endpoint_url"),
        (s3_error("502", 502, "text/html"), Transient, "a web server answers, not S3; correct endpoint_url"),
        (PartialCredentialsError(provider="env", cred_var="secret"), UsageError, "Partial credentials found"),
        (NoCredentialsError(), Transient, "no credentials; give the connection to S3 a login"),
    ],
)
def test_an_error_of_s3_is_one_line_that_says_what_to_do(error: Exception, kind: type, words: str) -> None:
    """It begins with the object."""
    translated = of_s3("s3://bucket/key", error)
    assert type(translated) is kind
    assert str(translated).startswith("s3://bucket/key: ")
    assert words in str(translated)


def test_an_s3_server_that_refuses_connections_is_named_by_its_address() -> None:
    """Not by the URL of a request."""
    error = EndpointConnectionError(
        endpoint_url="http://s3:8333/b/k?x=1", error="[Errno 111] Connection refused"
    )
    translated = of_s3("s3://b/k", error)
    assert isinstance(translated, Transient)
    assert str(translated) == "S3 (s3:8333): connection refused; is the server running?"


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (Connection(login="key"), "needs both a login (the access key) and a password (the secret)"),
        (Connection(**KEYS, extra={"endpoint_url": "s3:8333"}), "endpoint_url is not a URL such as http://"),
        (Connection(**KEYS, extra={"endpoint_url": f"{SECRET}//s3"}), "endpoint_url is not a URL such as"),
        (Connection(**KEYS, extra={"endpoint_url": "http://s3:port"}), "endpoint_url is not a URL such as"),
        (Connection(**KEYS, extra={"region_name": "no region"}), "region_name 'no region' doesn't match"),
        (Connection(**KEYS, extra={"config_kwargs": {"x": 1}}), "unexpected keyword argument 'x'"),
        (Connection(**KEYS, extra={"config_kwargs": "x"}), "must be a mapping"),
    ],
)
def test_a_connection_that_s3s_client_refuses_is_wrong_usage(where: Connection, words: str) -> None:
    """Before anything is sent."""
    with pytest.raises(UsageError) as raised:
        s3_client(where)
    assert words in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        CredentialRetrievalError(provider="container-role", error_msg="Read timeout"),
        MetadataRetrievalError(error_msg="Read timeout"),
        ConnectTimeoutError(endpoint_url="https://sts.amazonaws.com/", error="timed out"),
        EndpointConnectionError(endpoint_url="https://sts.amazonaws.com/", error="Connection refused"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_keys_of_a_role_that_could_not_be_fetched_may_come_later(error: BotoCoreError) -> None:
    """The client fetches them when it is made."""
    with pytest.raises(Transient), wrong_connections("aws_default"):
        raise error


def test_a_connections_own_client_options_take_precedence() -> None:
    """Somebody who wants other time-outs or fewer tries gets them."""
    where = Connection(**KEYS, extra={"config_kwargs": {"connect_timeout": 1, "retries": {"mode": "legacy"}}})
    config = s3_client(where).meta.config
    assert config.connect_timeout == 1
    assert config.retries["mode"] == "legacy"
    assert config.read_timeout == 60
