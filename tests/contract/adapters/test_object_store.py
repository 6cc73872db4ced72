"""The contract of `ObjectStore`, for the store in memory and for the S3 adapter on SeaweedFS and moto."""

import random
import threading
from pathlib import Path

import boto3.exceptions
import botocore.exceptions
import pytest
import s3transfer.exceptions
from botocore.config import Config
from botocore.exceptions import ClientError

from mnist_ops.adapters.s3.connection import s3_client as connection_client
from mnist_ops.adapters.s3.errors import translating
from mnist_ops.adapters.s3.objects import S3Objects, split_uri
from mnist_ops.domain.connections import Connection
from mnist_ops.domain.errors import MnistOpsError, ObjectMissing, Permanent, Transient
from mnist_ops.domain.keys import Generation, part_key, run_key
from tests.support.hostile_servers import hostile_servers

MEBIBYTE = 1 << 20
SERVERS = ["seaweedfs", "moto"]


def _file(folder: Path, size: int) -> Path:
    path = folder / f"{size}.bin"
    path.write_bytes(random.Random(size).randbytes(size))
    return path


# Round trips


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_bytes_come_back_as_they_were_put(objects, size):
    """`get_bytes` of the URI that `put_bytes` returned gives the same bytes."""
    data = random.Random(size).randbytes(size)
    assert objects.get_bytes(objects.put_bytes("some/key.bin", data)) == data


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(0, 2, b"01"), (3, 4, b"3456"), (8, 9, b"89"), (-3, 3, b"789"), (-3, 1, b"7"), (-99, 99, b"0123456789")],
)
def test_a_range_of_an_object_is_read_with_the_size_of_the_whole(objects, start, length, expected):
    """From the beginning, within, and from the end; as far as the object goes."""
    found = objects.get_range(objects.put_bytes("a", b"0123456789"), start, length)
    assert (found.data, found.size) == (expected, 10)


def test_a_range_of_a_missing_object_is_a_missing_object(objects):
    """It is told from an empty one."""
    with pytest.raises(ObjectMissing, match=r"/a: "):
        objects.get_range(objects.uri("a"), 0, 1)


@pytest.mark.parametrize("size", [0, 1, 16 * MEBIBYTE, 33 * MEBIBYTE + 7])
def test_a_file_of_any_size_comes_back_as_it_was_put(objects, tmp_path, size):
    """Also one that goes up in several parts."""
    path, back = _file(tmp_path, size), tmp_path / "back"
    uri = objects.put_file("parts/part.bson.gz", path)
    objects.get_file(uri, back)
    assert back.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 16 * MEBIBYTE, 50 * MEBIBYTE + 7])
@pytest.mark.parametrize("step", [700_001, 40 * MEBIBYTE])
def test_an_upload_of_any_size_comes_back_as_it_was_written(objects, size, step):
    """With small and large pieces; and there is no object before the upload is finished."""
    data = random.Random(size).randbytes(size)
    upload = objects.upload("parts/part.bson.gz")
    for start in range(0, size, step):
        upload.write(data[start : start + step])
    assert list(objects.keys("")) == []
    uri = upload.finish()
    upload.abort()
    assert uri == objects.uri("parts/part.bson.gz")
    assert objects.get_bytes(uri) == data


def _unfinished_uploads(store: S3Objects) -> list[str]:
    listed = store._client.list_multipart_uploads(Bucket="mnist-ops")
    return [each["Key"] for each in listed.get("Uploads", []) if each["Key"].startswith(store._prefix)]


@pytest.mark.parametrize("server", SERVERS)
def test_a_small_upload_is_one_request(s3_clients, server):
    """Bytes that fit into one part need no multipart upload."""
    store = S3Objects(s3_clients(server), "mnist-ops", f"contract/small-{server}")
    store.ensure_bucket()
    before = dict(store.requests)
    upload = store.upload("small")
    upload.write(b"x" * MEBIBYTE)
    upload.finish()
    assert {k: n - before.get(k, 0) for k, n in store.requests.items() if n != before.get(k, 0)} == {
        "PutObject": 1
    }


@pytest.mark.parametrize("server", SERVERS)
def test_an_upload_that_is_aborted_leaves_nothing(s3_clients, server):
    """Neither an object nor parts, which a store would keep and charge for."""
    store = S3Objects(s3_clients(server), "mnist-ops", f"contract/aborted-{server}")
    store.ensure_bucket()
    upload = store.upload("large")
    upload.write(b"x" * (40 * MEBIBYTE))
    assert _unfinished_uploads(store) == ["contract/aborted-" + server + "/large"]
    upload.abort()
    upload.abort()
    assert (_unfinished_uploads(store), list(store.keys(""))) == ([], [])


def test_a_part_that_fails_fails_the_upload(s3_clients):
    """Its error is raised by a later write or by `finish`, as one of ours; an abort then leaves nothing."""
    client = s3_clients("moto", config=Config(retries={"mode": "standard", "total_max_attempts": 1}))
    store = S3Objects(client, "mnist-ops", "contract/failing")
    store.ensure_bucket()

    def lose_connection(**_: object) -> None:
        raise botocore.exceptions.ConnectionClosedError(endpoint_url="http://127.0.0.1")

    client.meta.events.register("before-send.s3.UploadPart", lose_connection)
    upload = store.upload("large")
    with pytest.raises(Transient):
        upload.write(b"x" * (5 * 16 * MEBIBYTE))
    upload.abort()
    assert (_unfinished_uploads(store), list(store.keys(""))) == ([], [])


def test_an_upload_that_cannot_be_aborted_is_named(s3_clients, caplog):
    """In short lines; URI and id, which people copy, each have one of their own."""
    client = s3_clients("moto", config=Config(retries={"mode": "standard", "total_max_attempts": 1}))
    store = S3Objects(client, "mnist-ops", "contract/stuck")
    store.ensure_bucket()

    def lose_connection(**_: object) -> None:
        raise botocore.exceptions.ConnectionClosedError(endpoint_url="http://127.0.0.1")

    client.meta.events.register("before-send.s3.AbortMultipartUpload", lose_connection)
    upload = store.upload("large")
    upload.write(b"x" * (17 * MEBIBYTE))
    upload_id = upload._upload_id
    upload.abort()
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings[:3] == [
        "This upload may have left parts behind:",
        f"  {store.uri('large')}",
        f"  {upload_id}",
    ]
    assert warnings[3].startswith("It could not be aborted: S3 (127.0.0.1): ")
    assert all(len(line) < 100 for line in warnings)


def test_bytes_and_files_are_the_same_objects(objects, tmp_path):
    """An object from a file can be read as bytes, and the other way round."""
    path, back = _file(tmp_path, 1_000), tmp_path / "back"
    assert objects.get_bytes(objects.put_file("a", path)) == path.read_bytes()
    objects.get_file(objects.put_bytes("b", b"bytes"), back)
    assert back.read_bytes() == b"bytes"


def test_the_uri_of_a_key_is_known_before_it_is_written(objects, tmp_path):
    """`uri` returns the same as `put_bytes` and `put_file`."""
    expected = [objects.uri("a/b"), objects.uri("a/c")]
    assert [objects.put_bytes("a/b", b"1"), objects.put_file("a/c", _file(tmp_path, 3))] == expected


def test_putting_the_same_object_again_changes_nothing(objects):
    """A retry writes the same bytes under the same key."""
    assert objects.put_bytes("a", b"1") == objects.put_bytes("a", b"1")
    assert objects.get_bytes(objects.uri("a")) == b"1"
    assert list(objects.keys("")) == ["a"]


def test_a_file_is_replaced_by_the_object_it_receives(objects, tmp_path):
    """Also where the former file was longer."""
    back = _file(tmp_path, 1_000)
    objects.get_file(objects.put_bytes("a", b"short"), back)
    assert back.read_bytes() == b"short"


RUN_IDS = [
    "manual__2026-01-31T12:00:00+00:00",
    "..",
    "../../other",
    "a b&c=d?e#f%2Fg",
    "backfill__2026-01-01T00:00:00.000001Z~é",
]


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_keys_of_runs_with_any_id_are_kept_apart_and_literal(objects, tmp_path, run_id):
    """Listings return percent signs, dots and every other character of a run's key unchanged."""
    key = part_key(Generation(run_key("classify_records", run_id)), "attempt", 0)
    uri = objects.put_file(key, _file(tmp_path, 10))
    assert list(objects.keys("")) == [key]
    assert list(objects.keys(key.rpartition("/")[0] + "/")) == [key]
    assert objects.get_bytes(uri) == _file(tmp_path, 10).read_bytes()


# Listing


def test_a_key_may_be_the_folder_of_another(objects):
    """`a/b` and `a/b/c` may both exist, and both can be read and listed."""
    objects.put_bytes("a/b/c", b"inner")
    objects.put_bytes("a/b", b"outer")
    objects.put_bytes("a/b/d", b"other")
    assert [objects.get_bytes(objects.uri(key)) for key in ("a/b", "a/b/c", "a/b/d")] == [
        b"outer",
        b"inner",
        b"other",
    ]
    assert list(objects.keys("a/")) == ["a/b", "a/b/c", "a/b/d"]


def test_keys_are_listed_by_prefix(objects):
    """A prefix is one of characters, not of folders; an unknown one lists no keys."""
    for key in ("runs/1/a", "runs/1/b", "runs/10/a", "run", "other/runs/1"):
        objects.put_bytes(key, b"")
    assert set(objects.keys("")) == {"runs/1/a", "runs/1/b", "runs/10/a", "run", "other/runs/1"}
    assert list(objects.keys("runs/1/")) == ["runs/1/a", "runs/1/b"]
    assert list(objects.keys("runs/1")) == ["runs/1/a", "runs/1/b", "runs/10/a"]
    assert list(objects.keys("nowhere/")) == []


def test_a_listing_goes_on_beyond_its_first_page(s3_clients):
    """More keys than a server lists at once are all listed, once and in order."""
    client = s3_clients("seaweedfs")
    store = S3Objects(client, "mnist-ops", "contract/pages")
    keys = [f"part-{number:05d}" for number in range(9)]
    for key in keys:
        store.put_bytes(key, b"")

    def two_a_page(params: dict[str, object], **_: object) -> None:
        params["MaxKeys"] = 2

    client.meta.events.register("provide-client-params.s3.ListObjectsV2", two_a_page)
    assert list(store.keys("part-")) == keys
    assert store.requests["ListObjectsV2"] == 5


def test_two_prefixes_of_a_bucket_do_not_see_each_other(s3_clients):
    """The prefix is added to every key and removed in listings; URIs are absolute."""
    one, other = (S3Objects(s3_clients("moto"), "mnist-ops", f"contract/{name}") for name in ("one", "other"))
    one.ensure_bucket()
    uri = one.put_bytes("a", b"1")
    assert uri == "s3://mnist-ops/contract/one/a"
    assert (list(one.keys("")), list(other.keys(""))) == (["a"], [])
    assert other.get_bytes(uri) == b"1"


@pytest.mark.parametrize("server", SERVERS)
def test_a_bucket_is_created_once(s3_clients, server):
    """`ensure_bucket` creates it where it is missing, and is safe to repeat."""
    store = S3Objects(s3_clients(server), f"made-{server}")
    store.ensure_bucket()
    store.ensure_bucket()
    assert store.get_bytes(store.put_bytes("a", b"1")) == b"1"


# Requests


def test_requests_are_counted(objects, tmp_path):
    """Each operation adds its own kind; the counts go up and never down."""
    before = dict(objects.requests)
    uri = objects.put_bytes("a", b"1")
    objects.get_bytes(uri)
    list(objects.keys(""))
    made = {kind: count - before.get(kind, 0) for kind, count in objects.requests.items()}
    assert {kind: count for kind, count in made.items() if count} == {
        "PutObject": 1,
        "GetObject": 1,
        "ListObjectsV2": 1,
    }
    objects.put_file("b", _file(tmp_path, 10))
    objects.get_file(objects.uri("b"), tmp_path / "back")
    assert objects.requests["PutObject"] == before.get("PutObject", 0) + 2
    assert sum(objects.requests.values()) > sum(before.values()) + 4


@pytest.mark.parametrize("server", SERVERS)
def test_every_part_of_a_large_file_is_a_request(s3_clients, server, tmp_path):
    """33 MiB go up in three parts, with one request before them and one after."""
    store = S3Objects(s3_clients(server), "mnist-ops", f"contract/parts-{server}")
    store.ensure_bucket()
    before = dict(store.requests)
    store.put_file("large", _file(tmp_path, 33 * MEBIBYTE))
    made = {kind: count - before.get(kind, 0) for kind, count in store.requests.items()}
    operations = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
    assert {kind: made.get(kind) for kind in operations} == dict(zip(operations, (1, 3, 1), strict=True))


@pytest.mark.usefixtures("hasty_threads")
def test_requests_of_many_threads_are_all_counted(objects):
    """Parallel tasks of one process share a store."""

    def put(number: int) -> None:
        for turn in range(5):
            objects.put_bytes(f"{number}/{turn}", b"x")

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    before = objects.requests.get("PutObject", 0)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert objects.requests["PutObject"] == before + 40
    assert len(list(objects.keys(""))) == 40


# Errors


def test_a_missing_object_is_named(objects, tmp_path):
    """Reading a missing object raises ObjectMissing with its URI, and leaves no file behind."""
    uri = objects.uri("nowhere/a.json")
    with pytest.raises(ObjectMissing, match=r"nowhere/a\.json"):
        objects.get_bytes(uri)
    with pytest.raises(ObjectMissing, match=r"nowhere/a\.json"):
        objects.get_file(uri, tmp_path / "back")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_object_is_missing_beside_others_with_its_prefix(objects):
    """A folder is no object, and neither is the beginning of a key."""
    objects.put_bytes("a/bc", b"1")
    # Without "a/", which SeaweedFS returns as an empty object: no key of ours ends in a slash.
    for key in ("a", "a/b"):
        with pytest.raises(ObjectMissing):
            objects.get_bytes(objects.uri(key))


@pytest.mark.parametrize(
    "uri", ["", "a/b", "/etc/passwd", "s3://", "s3://bucket", "s3://bucket/", "http://h/k"]
)
def test_a_uri_of_something_else_is_refused(objects, tmp_path, uri):
    """Reading any other URI is a permanent error."""
    with pytest.raises(Permanent):
        objects.get_bytes(uri)
    with pytest.raises(Permanent):
        objects.get_file(uri, tmp_path / "back")


def test_a_uri_of_s3_is_a_bucket_and_a_key():
    """The key is everything after the bucket, percent signs included."""
    assert split_uri("s3://mnist-ops/a/b%3Ac+d.json") == ("mnist-ops", "a/b%3Ac+d.json")


def _upload(store, size: int) -> None:
    upload = store.upload("a")
    upload.write(bytes(size))
    upload.finish()


CALLS = {
    "put_bytes": lambda store, _: store.put_bytes("a", b"1"),
    "put_file": lambda store, folder: store.put_file("a", _file(folder, 10)),
    "put_file in pieces": lambda store, folder: store.put_file("a", _file(folder, 17 * MEBIBYTE)),
    "upload": lambda store, _: _upload(store, 10),
    "upload in pieces": lambda store, _: _upload(store, 17 * MEBIBYTE),
    "get_bytes": lambda store, _: store.get_bytes(store.uri("a")),
    "get_range": lambda store, _: store.get_range(store.uri("a"), 0, 1),
    "get_file": lambda store, folder: store.get_file(store.uri("a"), folder / "back"),
    "keys": lambda store, _: list(store.keys("")),
}


@pytest.mark.parametrize("call", CALLS)
def test_wrong_credentials_are_permanent(s3_clients, tmp_path, call):
    """The server knows the key, but not with this secret."""
    store = S3Objects(s3_clients("seaweedfs", secret="wrong"), "mnist-ops")
    with pytest.raises(Permanent) as caught:
        CALLS[call](store, tmp_path)
    assert not isinstance(caught.value, ObjectMissing)


def test_a_wrong_secret_is_said_in_words(s3_clients):
    """The message leads to the connection."""
    store = S3Objects(s3_clients("seaweedfs", secret="wrong"), "mnist-ops")
    with pytest.raises(Permanent, match=r"^s3://mnist-ops/a: the secret key is wrong; correct the password"):
        store.get_bytes(store.uri("a"))


def test_a_missing_bucket_is_said_in_words(s3_clients):
    """The message names the command that creates it."""
    store = S3Objects(s3_clients("moto"), "no-such-bucket")
    with pytest.raises(Permanent, match=r"^s3://no-such-bucket/a: no such bucket; create it \(`mnist"):
        store.get_bytes(store.uri("a"))


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_a_bucket_is_created_in_any_region(moto, region):
    """S3 wants to be told every region but its first."""
    where = Connection(login="test", password="test", extra={"endpoint_url": moto, "region_name": region})
    store = S3Objects(connection_client(where), f"bucket-of-{region}")
    store.ensure_bucket()
    store.ensure_bucket()
    assert store.get_bytes(store.put_bytes("a", b"1")) == b"1"


def test_a_web_server_is_not_taken_for_s3(s3_clients):
    """It answers HEAD for any bucket with 200."""
    config = Config(retries={"mode": "standard", "total_max_attempts": 1})
    with hostile_servers() as ports:
        client = s3_clients("moto", endpoint_url=f"http://127.0.0.1:{ports['web']}", config=config)
        with pytest.raises(Transient, match="a web server answers, not S3; correct endpoint_url"):
            S3Objects(client, "mnist-ops").ensure_bucket()


@pytest.mark.parametrize("call", CALLS)
def test_an_unknown_access_key_is_permanent(s3_clients, tmp_path, call):
    """The server does not know the key at all."""
    store = S3Objects(s3_clients("seaweedfs", key="nobody"), "mnist-ops")
    with pytest.raises(Permanent):
        CALLS[call](store, tmp_path)


@pytest.mark.parametrize(
    ("server", "call"),
    [("moto", call) for call in CALLS]
    # SeaweedFS creates a bucket when its owner puts an object there.
    + [("seaweedfs", call) for call in CALLS if not call.startswith(("put", "upload"))],
)
def test_a_missing_bucket_is_permanent(s3_clients, tmp_path, call, server):
    """A retry would not help."""
    with pytest.raises(Permanent):
        CALLS[call](S3Objects(s3_clients(server), "no-such-bucket"), tmp_path)


@pytest.mark.parametrize("server", SERVERS)
def test_a_bucket_with_an_impossible_name_is_permanent(s3_clients, server, tmp_path):
    """boto3 refuses it before anything is sent."""
    for call in CALLS.values():
        with pytest.raises(Permanent):
            call(S3Objects(s3_clients(server), "Not A Bucket"), tmp_path)


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_does_not_answer_is_transient(s3_clients, tmp_path, call):
    """It may answer later."""
    config = Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=1)
    client = s3_clients("moto", endpoint_url="http://127.0.0.1:9", config=config)
    with pytest.raises(Transient):
        CALLS[call](S3Objects(client, "mnist-ops"), tmp_path)


def _error_classes(root: type[BaseException]) -> list[type[BaseException]]:
    found = {root}
    for child in root.__subclasses__():
        found.update(_error_classes(child))
    return sorted(found, key=lambda each: (each.__module__, each.__name__))


def _made(kind: type[BaseException]) -> BaseException:
    """Make an error of a class, whatever arguments its constructor needs."""
    if issubclass(kind, ClientError):
        return kind({"Error": {"Code": "Oops", "Message": "lost"}}, "GetObject")
    error = kind.__new__(kind, "lost")
    Exception.__init__(error, "lost")
    return error


LIBRARY_ERRORS = [
    *_error_classes(botocore.exceptions.BotoCoreError),
    ClientError,
    *_error_classes(boto3.exceptions.Boto3Error),
    # Errors of a file's transfer that boto3 does not wrap: an object that changed during its download, and an
    # answer with another range than the requested one.
    s3transfer.exceptions.S3DownloadFailedError,
    s3transfer.exceptions.S3ValidationError,
]


@pytest.mark.parametrize("kind", LIBRARY_ERRORS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_error_of_the_client_library_becomes_one_of_ours(kind):
    """No error of botocore's, boto3's or s3transfer's leaves the adapter."""
    with pytest.raises(MnistOpsError) as caught, translating("s3://bucket/key"):
        raise _made(kind)
    assert isinstance(caught.value.__cause__, kind)


@pytest.mark.parametrize(
    "kind",
    [
        botocore.exceptions.PartialCredentialsError,
        botocore.exceptions.ParamValidationError,
        botocore.exceptions.NoRegionError,
        botocore.exceptions.ProfileNotFound,
    ],
    ids=lambda kind: kind.__name__,
)
def test_a_wrong_setting_is_permanent(kind):
    """A person must fix it, so a retry would not help."""
    with pytest.raises(Permanent), translating("s3://bucket/key"):
        raise _made(kind)


@pytest.mark.parametrize(
    "kind",
    [
        botocore.exceptions.EndpointConnectionError,
        botocore.exceptions.ConnectTimeoutError,
        botocore.exceptions.ReadTimeoutError,
        botocore.exceptions.ConnectionClosedError,
        botocore.exceptions.IncompleteReadError,
        botocore.exceptions.ResponseStreamingError,
        boto3.exceptions.RetriesExceededError,
    ],
    ids=lambda kind: kind.__name__,
)
def test_a_lost_connection_is_transient(kind):
    """The network may be back later."""
    with pytest.raises(Transient), translating("s3://bucket/key"):
        raise _made(kind)


ANSWERS = {
    (404, "NoSuchKey"): ObjectMissing,
    (404, "404"): ObjectMissing,
    (404, "NoSuchBucket"): Permanent,
    (404, "NoSuchUpload"): Transient,
    (403, "AccessDenied"): Permanent,
    (403, "403"): Permanent,
    (403, "InvalidAccessKeyId"): Permanent,
    (403, "SignatureDoesNotMatch"): Permanent,
    (403, "RequestTimeTooSkewed"): Permanent,
    (400, "ExpiredToken"): Transient,
    (400, "InvalidToken"): Permanent,
    (400, "InvalidBucketName"): Permanent,
    (400, "AuthorizationHeaderMalformed"): Permanent,
    (400, "EntityTooLarge"): Permanent,
    (400, "KeyTooLongError"): Permanent,
    (400, "InvalidRequest"): Permanent,
    (405, "MethodNotAllowed"): Permanent,
    (301, "PermanentRedirect"): Permanent,
    (400, "RequestTimeout"): Transient,
    (409, "OperationAborted"): Transient,
    (429, "TooManyRequests"): Transient,
    (503, "SlowDown"): Transient,
    (503, "ServiceUnavailable"): Transient,
    (503, "503"): Transient,
    (500, "InternalError"): Transient,
}


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: f"{answer[0]} {answer[1]}")
def test_an_answer_of_the_server_is_split_by_what_the_caller_does(answer):
    """Missing, permanent, or transient."""
    status, code = answer
    response = {
        "Error": {"Code": code, "Message": "no"},
        "ResponseMetadata": {
            "HTTPStatusCode": status,
            "HTTPHeaders": {},
            "RetryAttempts": 0,
            "RequestId": "1",
        },
    }
    with pytest.raises(ANSWERS[answer]), translating("s3://bucket/key"):
        raise ClientError(response, "GetObject")


def test_an_upload_that_failed_is_split_by_its_cause():
    """boto3 wraps the server's answer to an upload; it is translated like any other."""
    failed = boto3.exceptions.S3UploadFailedError("Failed to upload")
    failed.__context__ = ClientError({"Error": {"Code": "SlowDown", "Message": "later"}}, "PutObject")
    with pytest.raises(Transient), translating("s3://bucket/key"):
        raise failed
    refused = boto3.exceptions.S3UploadFailedError("Failed to upload")
    refused.__context__ = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutObject")
    with pytest.raises(Permanent), translating("s3://bucket/key"):
        raise refused
