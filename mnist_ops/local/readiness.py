"""Waits until the parts of the stack answer, and asks them over HTTP."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable

from mnist_ops.domain.errors import Permanent

# Asks once; returns what is still missing, in words, or None when the part is ready.
Probe = Callable[[], str | None]
# Shows a line of progress to people.
ReportProgress = Callable[[str], None]

_REQUEST_TIMEOUT_S = 3.0
_POLL_INTERVAL_S = 0.1

# A proxy of the environment must not be used between two processes of one machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def wait_until_ready(
    name: str, probe: Probe, *, timeout_s: float, check: Callable[[], None], report_progress: ReportProgress
) -> None:
    """Repeat a probe until nothing is missing, and report what is missing whenever that changes.

    Args:
        name: the part, for the messages.
        probe: asks once.
        timeout_s: seconds to wait.
        check: called before each probe; raises if waiting has become pointless.
        report_progress: shows what is being waited for.

    Raises:
        Permanent: it did not answer within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    reported = None
    while True:
        check()
        missing = probe()
        if missing is None:
            return
        if missing != reported:
            report_progress(f"{name}: waiting for {missing}")
            reported = missing
        if time.monotonic() > deadline:
            raise Permanent(f"{name} did not answer within {timeout_s:.0f} s: still waiting for {missing}")
        time.sleep(_POLL_INTERVAL_S)


def request(
    url: str, *, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes] | None:
    """Make one HTTP request; return status and body, or None if there was no answer."""
    # `url` is made of the stack's own ports, never of input.
    question = urllib.request.Request(url, data=body, headers=headers or {}, method=method)  # noqa: S310
    try:
        with _direct.open(question, timeout=_REQUEST_TIMEOUT_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return None
