"""Images in S3: against moto, and against a server that misbehaves."""

import threading
import time
from contextlib import closing
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import NoCredentialsError

from mnist_ops.adapters.s3.connection import s3_client
from mnist_ops.adapters.s3.images import S3Images
from mnist_ops.domain.connections import Connection
from mnist_ops.domain.fetch_policy import FetchPolicy
from mnist_ops.domain.images import FetchedImage, FetchFailure, UnchangedImage, Validators
from mnist_ops.domain.reasons import Reason
from tests.faults.hostile_http import HostileServer
from tests.faults.hostile_routes import ROUTES

BUCKETS = frozenset(
    {"digits", "no-such-bucket", "status", "cuts", "overstates-length", "endless", "silent", "steady", "busy"}
)
POLICY = FetchPolicy(max_bytes=200_000, total_timeout_s=1.0, buckets=BUCKETS)


@pytest.fixture(scope="module")
def bucket(s3_clients):
    """A client of moto with a bucket of images; the bucket is `digits`."""
    client = s3_clients("moto")
    client.create_bucket(Bucket="digits")
    for number in range(60):
        client.put_object(Bucket="digits", Key=f"image {number}.png", Body=f"image {number}".encode())
    client.put_object(Bucket="digits", Key="empty.png", Body=b"")
    client.put_object(Bucket="digits", Key="largest.png", Body=bytes(200_000))
    client.put_object(Bucket="digits", Key="larger.png", Body=bytes(200_001))
    return client


@pytest.fixture
def server():
    """An S3 that misbehaves; buckets are named as the routes."""
    with HostileServer(dict(ROUTES)) as running:
        yield running


def images_at(port: int) -> S3Images:
    """A fetcher whose S3 is on this port."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=1,
            read_timeout=1,
            s3={"addressing_style": "path"},
        ),
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    return S3Images(client, POLICY)


def one(fetcher: S3Images, url: str) -> FetchedImage | FetchFailure:
    """The outcome of one URL."""
    (outcome,) = fetcher.fetch([url])
    assert outcome.url == url
    return outcome


def test_images_come_in_the_order_of_the_urls(bucket):
    """Keys are used as they are written, spaces included."""
    outcomes = list(S3Images(bucket, POLICY).fetch(f"s3://digits/image {n}.png" for n in range(60)))
    assert [outcome.payload for outcome in outcomes] == [f"image {n}".encode() for n in range(60)]
    assert {outcome.http_status for outcome in outcomes} == {None}


def test_an_object_of_exactly_the_maximum_size_is_taken(bucket):
    """`max_bytes` is the largest size allowed."""
    assert len(one(S3Images(bucket, POLICY), "s3://digits/largest.png").payload) == 200_000


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://digits/missing.png", Reason.NOT_FOUND),
        ("s3://no-such-bucket/image.png", Reason.NOT_FOUND),
        ("s3://digits/larger.png", Reason.TOO_LARGE),
        ("s3://digits/empty.png", Reason.NOT_AN_IMAGE),
        ("s3://digits/", Reason.INVALID_URL),
        ("s3://digits", Reason.INVALID_URL),
        ("s3:///image.png", Reason.INVALID_URL),
        ("s3://arn:aws:s3:us-east-1:1:accesspoint/a/b", Reason.INVALID_URL),
        ("s3://digits/a\x00b", Reason.INVALID_URL),
        ("s3://digits/" + "ä" * 1000, Reason.NOT_FOUND),
        ("s3://digits/\ud800", Reason.INVALID_URL),
        ("https://example.org/", Reason.INVALID_URL),
    ],
)
def test_every_bad_url_has_its_reason(bucket, url, reason):
    """A bad URL is a value, not an error."""
    outcome = one(S3Images(bucket, POLICY), url)
    assert isinstance(outcome, FetchFailure)
    assert outcome.reason is reason


@pytest.mark.parametrize(
    ("path", "reason", "http_status"),
    [
        ("status/403", Reason.REFUSED_BY_SERVER, 403),
        ("status/429", Reason.RATE_LIMITED, 429),
        ("status/500", Reason.SERVER_ERROR, 500),
        ("status/503", Reason.SERVER_ERROR, 503),
        ("cuts/off", Reason.CONNECTION_FAILED, None),
        ("overstates_length/1", Reason.CONNECTION_FAILED, None),
        ("endless/200", Reason.TOO_LARGE, None),
        ("silent/1", Reason.TIMEOUT, None),
        ("steady/1", Reason.TIMEOUT, None),
    ],
)
def test_failures_of_the_store_have_their_reasons(server, path, reason, http_status):
    """A failure that may pass has a transient reason, a refused request a permanent one."""
    bucket_name = path.partition("/")[0].replace("_", "-")
    server.routes[bucket_name] = server.routes[path.partition("/")[0]]
    began = time.monotonic()
    outcome = one(images_at(server.port), f"s3://{bucket_name}/{path.partition('/')[2]}")
    assert isinstance(outcome, FetchFailure)
    assert (outcome.reason, outcome.http_status) == (reason, http_status)
    assert time.monotonic() - began < 4


def test_a_bucket_that_is_not_allowed_gets_no_request(bucket):
    """It would be read with the pipeline's own credentials, so each bucket must be named in the settings."""
    bucket.create_bucket(Bucket="private")
    bucket.put_object(Bucket="private", Key="secret", Body=b"secret")
    outcome = one(S3Images(bucket, POLICY), "s3://private/secret")
    assert isinstance(outcome, FetchFailure)
    assert outcome.reason is Reason.BLOCKED_ADDRESS
    assert "private" in outcome.detail


def test_slow_down_is_a_rate_limit_and_no_server_error(server):
    """S3 sends it with status 503."""
    body = b"<Error><Code>SlowDown</Code><Message>Please</Message></Error>"
    server.routes["busy"] = lambda exchange: exchange.answer(503, body, {"Content-Type": "application/xml"})
    assert one(images_at(server.port), "s3://busy/1").reason is Reason.RATE_LIMITED


def test_missing_credentials_are_a_transient_failure():
    """A wrong setting must not fail records for good."""

    class WithoutCredentials:
        meta = SimpleNamespace(config=SimpleNamespace(max_pool_connections=1))

        def get_object(self, **_):
            raise NoCredentialsError

    assert one(S3Images(WithoutCredentials(), POLICY), "s3://digits/1").reason is Reason.CONNECTION_FAILED


def test_urls_are_read_lazily_and_memory_is_bounded(bucket):
    """No more objects are in flight than fit into the limit at their maximum size."""
    numbers = count()
    fetcher = S3Images(bucket, FetchPolicy(max_bytes=1000, read_ahead_bytes=5000, buckets=BUCKETS))
    answers = fetcher.fetch(f"s3://digits/image {number}.png" for number in numbers)
    for _ in range(10):
        next(answers)
    assert next(numbers) <= 15
    answers.close()


@pytest.mark.parametrize("store", ["seaweedfs", "moto"])
def test_an_object_that_has_not_changed_is_not_sent_again(s3_clients, store):
    """The request carries its ETag; with another one, or once the object has changed, the bytes are sent."""
    client = s3_clients(store)
    client.create_bucket(Bucket="versions")
    client.put_object(Bucket="versions", Key="1.png", Body=b"one")
    url, policy = "s3://versions/1.png", FetchPolicy(buckets=frozenset({"versions"}))
    with closing(S3Images(client, policy)) as fetcher:
        first = one(fetcher, url)
        assert first.validators.etag.startswith('"')
        assert first.validators.last_modified.endswith(" GMT")
        assert list(fetcher.fetch([url], {url: first.validators})) == [UnchangedImage(url, 304)]
        (again,) = fetcher.fetch([url], {url: Validators('"another"', first.validators.last_modified)})
        assert again.payload == b"one"
        client.put_object(Bucket="versions", Key="1.png", Body=b"two")
        (changed,) = fetcher.fetch([url], {url: first.validators})
        assert changed.payload == b"two"


@pytest.mark.parametrize("etag", ['"a"\r\nX: y', "\u20ac", "", None])
def test_a_validator_that_no_server_can_have_sent_is_not_used(bucket, etag):
    """Validators come from a file, which may have been tampered with."""
    url = "s3://digits/image 1.png"
    (outcome,) = S3Images(bucket, POLICY).fetch([url], {url: Validators(etag, None)})
    assert isinstance(outcome, FetchedImage)


def test_a_304_that_was_not_asked_for_is_a_failure(server):
    """The client holds no bytes of that image."""
    outcome = one(images_at(server.port), "s3://status/304")
    assert isinstance(outcome, FetchFailure)
    assert outcome.reason is Reason.REFUSED_BY_SERVER


def test_threads_and_connections_are_kept_and_match(server):
    """One thread a connection of the client, from one fetch to the next, until the fetcher is closed."""
    server.routes["busy"] = server.routes["ok"]
    with closing(images_at(server.port)) as fetcher:
        for _ in range(3):
            outcomes = list(fetcher.fetch(f"s3://busy/{number}" for number in range(40)))
            assert all(isinstance(outcome, FetchedImage) for outcome in outcomes)
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("s3-images")]
        assert 1 <= server.connections <= 10
    assert threads
    assert not any(thread.is_alive() for thread in threads)


def test_clients_of_the_pipeline_have_a_connection_for_each_thread():
    """Unless the connection sets another number."""
    where = Connection(login="key", password="secret", extra={"region_name": "us-east-1"})
    assert s3_client(where).meta.config.max_pool_connections == 16
    fewer = replace(where, extra={**where.extra, "config_kwargs": {"max_pool_connections": 3}})
    assert s3_client(fewer).meta.config.max_pool_connections == 3
