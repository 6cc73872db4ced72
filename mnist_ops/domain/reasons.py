"""The closed list of reasons why a record ends without a prediction."""

from enum import StrEnum


class Reason(StrEnum):
    """Why an item was rejected; stored in `prediction_failure.reason`, so these names must not change."""

    # The record itself.
    INVALID_URL = "invalid_url"
    BAD_CREATED_AT = "bad_created_at"
    # Its image could not be fetched, and trying again will not help.
    SCHEME_NOT_ALLOWED = "scheme_not_allowed"
    BLOCKED_ADDRESS = "blocked_address"
    NOT_FOUND = "not_found"
    REFUSED_BY_SERVER = "refused_by_server"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    TOO_LARGE = "too_large"
    # Its image could not be fetched this time.
    TIMEOUT = "timeout"
    CONNECTION_FAILED = "connection_failed"
    SERVER_ERROR = "server_error"
    RATE_LIMITED = "rate_limited"
    # Its bytes are not a usable image.
    NOT_AN_IMAGE = "not_an_image"
    UNREADABLE_IMAGE = "unreadable_image"
    TOO_MANY_PIXELS = "too_many_pixels"
    # A file given on the command line could not be read.
    UNREADABLE_FILE = "unreadable_file"
    # The database refused the write of this one record.
    WRITE_REFUSED = "write_refused"
    # A human label that the data set cannot use.
    UNKNOWN_LABEL = "unknown_label"
    LABEL_CONFLICT = "label_conflict"

    @property
    def transient(self) -> bool:
        """Whether another attempt at the same URL may succeed."""
        return self in _TRANSIENT


_TRANSIENT = frozenset({Reason.TIMEOUT, Reason.CONNECTION_FAILED, Reason.SERVER_ERROR, Reason.RATE_LIMITED})
