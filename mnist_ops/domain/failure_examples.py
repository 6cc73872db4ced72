"""Examples of failed records, up to 3 for each reason, for logs and ledgers; without secrets."""

import re
from collections.abc import Mapping, Sequence
from typing import TypedDict

MAX_EXAMPLES = 3
_LONGEST_TEXT = 200
_QUERY = re.compile(r"[?#].*", re.DOTALL)
# A URL within a text: the detail of a refused redirect names its target.
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
# The user and password of a URL, after its scheme; also of one that is not written correctly.
_USER = re.compile(r"^((?:[a-z][a-z0-9+.-]*:)?[/\\]*)[^/\\]*@", re.IGNORECASE)


class FailureExample(TypedDict):
    """A failed record.

    `record_id` is canonical Extended JSON. `url` is the image's, without user, password and query; None if
    the record has none. `detail` is one line for people. All are printable and at most 200 characters long.
    """

    record_id: str
    url: str | None
    detail: str | None


FailureExamples = Mapping[str, Sequence[FailureExample]]


def failure_example(record_id: str, url: str | None, detail: str | None) -> FailureExample:
    """An example of a failed record; what could be secret in its URLs is left out."""
    return {
        "record_id": _short(record_id),
        "url": None if url is None else _short(without_secrets(url)),
        "detail": None if detail is None else _short(_URL.sub(lambda url: without_secrets(url[0]), detail)),
    }


def add_examples(examples: dict[str, list[FailureExample]], more: FailureExamples) -> None:
    """Add examples by reason; of each reason the first 3 are kept."""
    for reason, ones in more.items():
        kept = examples.setdefault(reason, [])
        kept += ones[: MAX_EXAMPLES - len(kept)]


def without_secrets(url: str) -> str:
    """A URL without user, password, query and fragment: the query may hold a signature."""
    return _USER.sub(r"\1", _QUERY.sub("", url))


def _short(text: str) -> str:
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: _LONGEST_TEXT + 1])
    return printable if len(printable) <= _LONGEST_TEXT else f"{printable[: _LONGEST_TEXT - 1]}…"
