"""A server that cannot be reached: one line with its name, its address, the cause and what to do."""

import pytest

from mnist_ops.domain.connections import connection_error
from mnist_ops.domain.errors import Permanent, Transient


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("[Errno 111] Connection refused", "connection refused; is the server running?"),
        ("[Errno -2] Name or service not known", "unknown host; correct the address in the connection"),
        ("[Errno -3] Temporary failure in name resolution", "unknown host"),
        ("Read timed out. (read timeout=1)", "no answer in time"),
        ("[Errno 104] Connection reset by peer", "does only one side use TLS?"),
        ("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred", "does only one side use TLS?"),
    ],
)
def test_what_may_pass_is_transient_and_said_in_words(cause: str, words: str) -> None:
    """The task is tried again, and a person knows where to look."""
    error = connection_error("mongo_default", ["db:27017"], cause)
    assert isinstance(error, Transient)
    assert str(error).startswith("mongo_default (db:27017): ")
    assert words in str(error)


@pytest.mark.parametrize("cause", ["[SSL: WRONG_VERSION_NUMBER] wrong", "[SSL: CERTIFICATE_VERIFY_FAILED] x"])
def test_tls_that_cannot_work_is_permanent(cause: str) -> None:
    """A wrong port or an unknown authority does not pass."""
    assert isinstance(connection_error("S3", ["s3:443"], cause), Permanent)


def test_only_this_machine_leads_to_the_embedded_stack() -> None:
    """Somebody's production database is not started by it."""
    refused = "Connection refused"
    assert "stack up" in str(connection_error("S3", ["127.0.0.1:8333"], refused))
    assert "stack up" not in str(connection_error("S3", ["s3.internal:8333"], refused))
    assert "stack up" not in str(connection_error("S3", [], refused))


def test_an_unknown_cause_is_quoted_in_one_line() -> None:
    """It is taken to pass."""
    error = connection_error("S3", [], "something\n new")
    assert isinstance(error, Transient)
    assert str(error) == "S3: something new"
