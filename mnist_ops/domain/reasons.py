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
    # The database refused the write of this record: a validator, which somebody may correct.
    WRITE_REFUSED = "write_refused"
    # A human label that the data set cannot use.
    UNKNOWN_LABEL = "unknown_label"
    LABEL_CONFLICT = "label_conflict"

    @property
    def transient(self) -> bool:
        """Whether another attempt may succeed although the record's URL is the same."""
        return self in _TRANSIENT

    @property
    def can_hit_whole_run(self) -> bool:
        """Whether one wrong setting or one outage can cause it for all records of a run."""
        return self.transient or self in _OF_SETTING_OR_SERVER


_TRANSIENT = frozenset(
    {
        Reason.TIMEOUT,
        Reason.CONNECTION_FAILED,
        Reason.SERVER_ERROR,
        Reason.RATE_LIMITED,
        Reason.WRITE_REFUSED,
    }
)

# Not in this set: what is wrong with the record itself. Once the record, or the setting that names its field,
# is corrected, such a failure does not block it any more.
_OF_SETTING_OR_SERVER = frozenset(
    {
        # A host or bucket that is not allowed yet, or a name server that answers with a private address.
        Reason.BLOCKED_ADDRESS,
        # A server that redirects all requests: to a login page, to an app, in a circle.
        Reason.SCHEME_NOT_ALLOWED,
        Reason.TOO_MANY_REDIRECTS,
        # A server whose disk is not mounted, wrong credentials, a firewall.
        Reason.NOT_FOUND,
        Reason.REFUSED_BY_SERVER,
        # MNIST_OPS_FETCH_MAX_BYTES, or a server that sends originals instead of resized images.
        Reason.TOO_LARGE,
        Reason.TOO_MANY_PIXELS,
        # A maintenance page in place of each image, or bodies that end early.
        Reason.NOT_AN_IMAGE,
        Reason.UNREADABLE_IMAGE,
    }
)
