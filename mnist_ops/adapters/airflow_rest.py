"""A client of Airflow's REST API that starts runs and waits for them."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote, urlsplit

import requests

from mnist_ops.domain.connections import connection_error
from mnist_ops.domain.errors import Permanent, Transient

Json = dict[str, object]
_Answer = TypeVar("_Answer")

FINISHED = frozenset({"success", "failed"})
_TIMEOUT_S = 30.0
_POLL_INTERVAL_S = 0.5
# The maximum with Airflow's default settings ([api] maximum_page_limit).
_PAGE = 100


class AirflowRest:
    """A client for one Airflow, such as http://127.0.0.1:8080, with user name and password."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self._url = url.rstrip("/")
        self._account = {"username": username, "password": password}
        self._session = requests.Session()
        self._session.trust_env = False

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Json:
        """Make one call of /api/v2, and sign in first where that is needed.

        Raises:
            Permanent: Airflow refused the call; the message holds its answer.
            Transient: Airflow did not answer, or failed.
        """
        response = self._send(method, f"/api/v2{path}", body)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            self._sign_in()
            response = self._send(method, f"/api/v2{path}", body)
        return _json(response, f"{method} {path}")

    def _sign_in(self) -> None:
        answer = _json(self._send("POST", "/auth/token", self._account), "POST /auth/token")
        self._session.headers["Authorization"] = f"Bearer {answer['access_token']}"

    def _send(self, method: str, path: str, body: Mapping[str, object] | None) -> requests.Response:
        try:
            return self._session.request(method, self._url + path, json=body, timeout=_TIMEOUT_S)
        except requests.RequestException as error:
            raise connection_error("Airflow", [urlsplit(self._url).netloc], str(error)) from error

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG, so that it is scheduled."""
        self.call("PATCH", f"/dags/{_quoted(dag_id)}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, object] | None = None) -> str:
        """Start a manual run without a logical date; return its run id."""
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self.call("POST", f"/dags/{_quoted(dag_id)}/dagRuns", body)["dag_run_id"])

    def runs(self, dag_id: str) -> list[Json]:
        """All runs of a DAG, oldest first."""
        return self.listing(f"/dags/{_quoted(dag_id)}/dagRuns", "dag_runs", order_by="run_after")

    def run(self, dag_id: str, run_id: str) -> Json:
        return self.call("GET", f"/dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}")

    def task_instances(self, dag_id: str, run_id: str) -> list[Json]:
        """The task instances of a run; `~` as DAG and run gives those of all runs."""
        path = f"/dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}/taskInstances"
        return self.listing(path, "task_instances", order_by="id")

    def listing(self, path: str, name: str, *, order_by: str) -> list[Json]:
        """Read a whole listing below /api/v2, page by page; `name` is that of the list in an answer.

        It is ordered by the field `order_by`, so that no page repeats or skips a row.
        """
        found: list[Json] = []
        while True:
            page = self.call("GET", f"{path}?limit={_PAGE}&offset={len(found)}&order_by={order_by}")
            rows = page[name]
            if not isinstance(rows, list):
                raise Permanent(f"Airflow answered {rows!r:.200}, expected a list")
            found += rows
            if not rows or len(found) >= int(str(page["total_entries"])):
                return found

    def first_run(self, dag_id: str, timeout_s: float) -> str:
        """Wait until a DAG has a run, such as the one that unpausing causes; return the run id of its oldest.

        Raises:
            Transient: it has none after `timeout_s` seconds.
        """

        def oldest() -> str | None:
            runs = self.runs(dag_id)
            return str(runs[0]["dag_run_id"]) if runs else None

        return _poll(oldest, f"{dag_id} has no run", timeout_s)

    def wait(self, dag_id: str, run_id: str, timeout_s: float) -> str:
        """Wait until a run has finished; return its state.

        Raises:
            Transient: it has not finished after `timeout_s` seconds.
        """

        def finished() -> str | None:
            state = str(self.run(dag_id, run_id)["state"])
            return state if state in FINISHED else None

        return _poll(finished, f"{dag_id} {run_id} has not finished", timeout_s)

    def backfill(self, dag_id: str, since: datetime, until: datetime, options: Mapping[str, object]) -> int:
        """Start a backfill of the logical dates from `since` to `until`, both included; return its id.

        The options are reprocess_behavior, max_active_runs, run_backwards and dag_run_conf.
        """
        body = {"dag_id": dag_id, "from_date": since.isoformat(), "to_date": until.isoformat(), **options}
        return int(str(self.call("POST", "/backfills", body)["id"]))

    def backfill_runs(self, dag_id: str, since: datetime, until: datetime) -> list[Json]:
        """The runs of backfills with a logical date from `since` to `until`, both included."""
        return [
            run
            for run in self.runs(dag_id)
            if run["run_type"] == "backfill"
            and since <= datetime.fromisoformat(str(run["logical_date"])) <= until
        ]

    def wait_for_backfill(self, backfill_id: int, timeout_s: float) -> None:
        """Wait until all runs of a backfill have finished, with success or not.

        Raises:
            Transient: they have not finished after `timeout_s` seconds.
        """
        backfill = self.call("GET", f"/backfills/{backfill_id}")
        dag_id, since, until = (str(backfill[name]) for name in ("dag_id", "from_date", "to_date"))
        first, last = datetime.fromisoformat(since), datetime.fromisoformat(until)

        def finished() -> bool | None:
            runs = self.backfill_runs(dag_id, first, last)
            return all(run["state"] in FINISHED for run in runs) or None

        _poll(finished, f"backfill {backfill_id} has not finished", timeout_s)
        self._close(backfill_id)

    def _close(self, backfill_id: int) -> None:
        """Complete a backfill whose runs have finished, by cancelling it.

        Airflow itself completes it only minutes later, and refuses another backfill of the DAG until then.
        """
        path = f"/backfills/{backfill_id}"
        if self.call("GET", path)["completed_at"] is not None:
            return
        try:
            self.call("PUT", f"{path}/cancel")
        except Permanent:
            if self.call("GET", path)["completed_at"] is None:
                raise


def _poll(ask: Callable[[], _Answer | None], problem: str, timeout_s: float) -> _Answer:
    """Ask until there is an answer. On a busy machine Airflow may not answer a call in time: ask again."""
    deadline, unanswered = time.monotonic() + timeout_s, None
    while time.monotonic() < deadline:
        try:
            answer = ask()
        except Transient as error:
            unanswered = error
        else:
            if answer is not None:
                return answer
        time.sleep(_POLL_INTERVAL_S)
    raise Transient(f"{problem} after {timeout_s:.0f} s") from unanswered


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _json(response: requests.Response, what: str) -> Json:
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Transient(f"{what}: {response.status_code} {response.text:.500}")
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        raise Permanent(f"{what}: {response.status_code} {response.text:.500}")
    if not response.content:
        return {}
    answer = response.json()
    if not isinstance(answer, dict):
        raise Permanent(f"{what}: answered {answer!r:.200}, expected an object")
    return answer
