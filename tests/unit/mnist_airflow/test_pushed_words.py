"""What operators push for the note of their run: no secret is in it, and it hides no error."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from airflow.sdk.log import mask_secret

from mnist_airflow.operators import ReconcileRunOperator, base
from mnist_ops.domain.errors import Transient
from mnist_ops.domain.run_summary import RunFailed
from tests.unit.domain.test_run_summary import HOLDING

SECRET = "canary-of-24-characters-"


class Task:
    """In place of a task instance: keeps what is pushed, or refuses it with an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.pushed: dict[str, object] = {}
        self.error = error

    def xcom_push(self, key: str, value: object) -> None:
        """Keep or refuse it."""
        if self.error:
            raise self.error
        self.pushed[key] = value


def fail_in(monkeypatch: pytest.MonkeyPatch, task: Task, error: Exception) -> None:
    """Let an operator's work in a task end with an error."""
    monkeypatch.setattr(base, "get_current_context", lambda: {"ti": task})
    with base.permanent_errors_fail():
        raise error


@pytest.fixture(autouse=True, scope="module")
def secret() -> None:
    """A secret that Airflow knows."""
    mask_secret(SECRET)


def test_an_error_is_masked_before_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret over the limit would keep its first characters."""
    task = Task()
    with pytest.raises(Transient):
        fail_in(monkeypatch, task, Transient(f"{'x' * 190}{SECRET}"))
    assert task.pushed == {"error": f"{'x' * 190}***"}


def test_a_note_is_masked() -> None:
    """It holds addresses of records, which come from outside."""
    task, context = Task(), SimpleNamespace()
    context = {"ti": task}
    base.push_note(context, ["1 failed", f"http://images/?key={SECRET}"])  # type: ignore[arg-type]
    assert task.pushed == {"note": "1 failed\nhttp://images/?key=***"}


@pytest.mark.parametrize("error", [TypeError("no"), OSError("no"), RuntimeError("no")])
def test_an_error_that_cannot_be_pushed_stays_the_tasks_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """What went wrong is in the log."""
    with pytest.raises(Transient, match="no answer"):
        fail_in(monkeypatch, Task(error), Transient("no answer"))
    assert "will not say all of why the task failed" in caplog.text


def test_a_red_run_stays_red_where_its_note_cannot_be_pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the task would be tried again for an error that is none of its own."""

    def reconcile(manifest: str, shards: list[str]) -> None:  # noqa: ARG001 (the pipeline's own)
        raise RunFailed(HOLDING)

    @contextmanager
    def pipeline(self: ReconcileRunOperator) -> Iterator[SimpleNamespace]:  # noqa: ARG001 (a method)
        yield SimpleNamespace(manifest=lambda _: HOLDING, reconcile=reconcile)

    monkeypatch.setattr(ReconcileRunOperator, "pipeline", pipeline)
    operator = ReconcileRunOperator(task_id="reconcile", manifest="s3://bucket/manifest", outcomes=[])
    with pytest.raises(RunFailed):
        operator.execute({"ti": Task(OSError("no"))})  # type: ignore[arg-type, typeddict-item]
