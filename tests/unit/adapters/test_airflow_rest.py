"""The client of Airflow's REST API reads listings of several pages, and waits for runs."""

from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import pytest

from mnist_ops.adapters.airflow_rest import AirflowRest, Json
from mnist_ops.domain.errors import Transient

MAXIMUM_PAGE = 100  # rows, also where more are asked for


class Paged(AirflowRest):
    """An Airflow with many runs of one DAG, and many task instances in each."""

    def __init__(self, count: int) -> None:
        super().__init__("http://127.0.0.1:1", "user", "password")
        self._count = count
        self.asked = 0

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Json:
        """Return one page."""
        assert (method, body) == ("GET", None)
        self.asked += 1
        url = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        first = int(query["offset"])
        numbers = range(first, min(self._count, first + min(MAXIMUM_PAGE, int(query["limit"]))))
        if url.path.endswith("/taskInstances"):
            rows = [{"task_id": f"task{number % 3}", "state": "success"} for number in numbers]
            return {"task_instances": rows, "total_entries": self._count}
        return {"dag_runs": [{"dag_run_id": str(number)} for number in numbers], "total_entries": self._count}


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (100, 1), (101, 2), (250, 3)])
def test_all_pages_are_read(count: int, pages: int) -> None:
    """In order, each row once, without a request for a page that does not exist."""
    airflow = Paged(count)
    assert [run["dag_run_id"] for run in airflow.runs("dag")] == [str(number) for number in range(count)]
    assert airflow.asked == pages
    assert len(airflow.task_instances("dag", "run")) == count


class Busy(AirflowRest):
    """An Airflow that leaves the first call unanswered, then says that the run is on, then that it failed."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1", "user", "password")
        self._answers: list[Json | Transient] = [
            Transient("no answer"),
            {"state": "running"},
            {"state": "failed"},
        ]

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Json:
        """Give the next answer."""
        answer = self._answers.pop(0)
        if isinstance(answer, Transient):
            raise answer
        return answer


def test_waiting_goes_on_where_one_call_is_not_answered() -> None:
    """A busy machine is no reason to give up a run."""
    assert Busy().wait("dag", "run", timeout_s=60) == "failed"


def test_waiting_ends_after_its_time() -> None:
    """The error names the run."""
    with pytest.raises(Transient, match="dag run has not finished after 0 s"):
        Busy().wait("dag", "run", timeout_s=0)
