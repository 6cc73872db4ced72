"""The note of a run: what its tasks found, where a person looks first.

A task cannot write its run's note: in Airflow 3.3 only the API and the scheduler can. So the operators push
what they have to say as the XCom `note`, and the first line of what they fail with as `error`.
When the run ends, the scheduler's listener calls `write_note`, which makes the run's note of them.

It imports the standard library only: the scheduler imports it, and the pure half needs no Airflow.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session

TITLE = "MNIST Ops"
NOTE, ERROR = "note", "error"

# Airflow's limit for a note, of the column and of the API.
MAX_CHARACTERS = 1_000
_MAX_ERRORS = 3
_NEVER = datetime.min.replace(tzinfo=UTC)
# Signs of Markdown and HTML, and of what the UI makes a link by itself: an address of the web or of an email.
_MARKUP = re.compile(r"[`*\[\]<>~|\\&!#@]|://|www\.", re.IGNORECASE)
_CUT = "- … the rest is in the tasks' logs"

# Whose XComs are read; a test compares them with the operators that there are.
OPERATORS = frozenset(
    {
        "ApprovePromotionOperator",
        "AssessRunOperator",
        "BuildDatasetOperator",
        "ChooseTrainingOperator",
        "ClassifyImagesOperator",
        "EvaluateModelOperator",
        "FetchImagesOperator",
        "PlanTrainingsOperator",
        "PromoteModelOperator",
        "PublishPredictionsOperator",
        "ReconcileRunOperator",
        "ReleaseModelOperator",
        "SnapshotRecordsOperator",
        "StartTrainingInstanceOperator",
        "StopTrainingInstanceOperator",
        "TrainModelOperator",
    }
)


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task instance ended, and what it said.

    Attributes:
        name: of the task; of a mapped one with what the UI calls the instance.
        state: in Airflow's words.
        ended_at: when (UTC); None if Airflow does not say.
        note: what it says of the run, in lines; None if nothing.
        error: the first line of what it failed with; None if that is not known.
    """

    name: str
    state: str
    ended_at: datetime | None
    note: str | None = None
    error: str | None = None


def lines_of(tasks: Iterable[TaskEnd]) -> list[str]:
    """The lines of a run's note: first what failed, then what the tasks said, the last task first.

    A line that two tasks said, such as the window, is there once.
    """
    newest_first = sorted(tasks, key=lambda task: task.ended_at or _NEVER, reverse=True)
    # A task that failed and left a note has said why in it.
    failed = [task for task in reversed(newest_first) if task.state == "failed" and task.note is None]
    lines = [f"{task.name} failed: {task.error or 'see its log'}" for task in failed[:_MAX_ERRORS]]
    if len(failed) > _MAX_ERRORS:
        lines.append(f"{len(failed) - _MAX_ERRORS} more tasks failed")
    said = [line for task in newest_first if task.note for line in task.note.splitlines()]
    return list(dict.fromkeys(lines + said))


def note_with(former: str | None, lines: Sequence[str]) -> str:
    """A note with our paragraph last, in place of the one that a former try left.

    Args:
        former: the note so far; what a person wrote into it is kept.
        lines: of our paragraph, the most important first: what is over Airflow's limit is cut.
    """
    persons = _without_paragraph(former or "")
    first, *items = _list_items(lines)
    # On the first line, which is all that the UI shows before a note is opened.
    start = f"{TITLE}: {first.removeprefix('- ')}"
    start = f"{persons}\n\n{start}" if persons else start
    kept, left = [start], MAX_CHARACTERS - len(start)
    for number, item in enumerate(items):
        reserved = 0 if number == len(items) - 1 else len(_CUT) + 1
        if len(item) + 1 + reserved > left:
            kept.append(_CUT)
            break
        kept.append(item)
        left -= len(item) + 1
    note = "\n".join(kept)
    return note if len(note) <= MAX_CHARACTERS else persons


def _list_items(lines: Sequence[str]) -> list[str]:
    """Lines, at least one, as a list in Markdown, which the UI renders: it would join plain lines to one.

    A command, also one that goes on over several lines, is marked as code, and so is a line that could hold
    an image, a link or HTML: addresses and error messages come from outside. An indented line goes on with
    the one before it; the two spaces at the end of that keep the line's end.
    """
    items: list[str] = []
    for line in "\n".join(lines).replace(" \\\n  ", " ").splitlines():
        text = line.strip()
        shown = _code(text) if text.startswith("mnist-ops ") or _has_markup(text) else text
        if items and line.startswith(" "):
            items[-1] += "  "
            items.append(f"  {shown}")
        else:
            items.append(f"- {shown}")
    return items


def _has_markup(text: str) -> bool:
    """Whether a line holds markup other than complete code spans, such as our own."""
    return "``" in text or _MARKUP.search(re.sub("`[^`]+`", "", text)) is not None


def _code(text: str) -> str:
    """A code span, in which nothing is markup; it is fenced by more backticks than the text has in a row."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _without_paragraph(note: str) -> str:
    """What is left of a note without our title and the lines under it, up to an empty one."""
    kept, ours = [], False
    for line in note.splitlines():
        ours = line.startswith(f"{TITLE}: ") or (ours and bool(line.strip()))
        if not ours:
            kept.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def write_note(session: "Session", dag_run: "DagRun") -> None:
    """Write the note of a run that has ended; leave it as it is if our operators have nothing to say.

    Args:
        session: Airflow's, of the run.
        dag_run: one that has ended.
    """
    from airflow.models.dagrun import DagRunNote
    from sqlalchemy import insert, select, update

    connection = session.connection()
    lines = lines_of(_tasks(connection, dag_run))
    if not lines:
        return
    of_run = DagRunNote.dag_run_id == dag_run.id
    former = connection.execute(select(DagRunNote.content).where(of_run).with_for_update()).one_or_none()
    content = note_with(former.content if former else None, lines)
    if former is None:
        connection.execute(insert(DagRunNote).values(dag_run_id=dag_run.id, content=content))
    else:
        connection.execute(update(DagRunNote).where(of_run).values(content=content))


def _tasks(connection: "Connection", dag_run: "DagRun") -> list[TaskEnd]:
    """The task instances of our operators that have run, with what they pushed."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    pushed = {
        (row.task_id, row.map_index, row.key): XComModel.deserialize_value(row)
        for row in connection.execute(
            select(XComModel.task_id, XComModel.map_index, XComModel.key, XComModel.value).where(
                XComModel.dag_run_id == dag_run.id, XComModel.key.in_((NOTE, ERROR))
            )
        )
    }
    instances = connection.execute(
        select(
            TaskInstance.task_id,
            TaskInstance.map_index,
            TaskInstance.rendered_map_index.label("map_name"),
            TaskInstance.state,
            TaskInstance.end_date,
            TaskInstance.operator,
        ).where(
            TaskInstance.dag_id == dag_run.dag_id,
            TaskInstance.run_id == dag_run.run_id,
            TaskInstance.operator.in_(OPERATORS),
        )
    )
    return [
        TaskEnd(
            name=f"{one.task_id} ({one.map_name})" if one.map_index >= 0 else one.task_id,
            state=str(one.state),
            ended_at=one.end_date,
            note=_text(pushed.get((one.task_id, one.map_index, NOTE))),
            error=_text(pushed.get((one.task_id, one.map_index, ERROR))),
        )
        for one in instances
        if _has_run(str(one.state), one.operator)
    ]


def _has_run(state: str, operator: str) -> bool:
    """Whether a task instance ran in this generation, so that what it pushed is of this generation too.

    Airflow deletes what a task pushed before only when the task starts again. A snapshot that only counts
    skips itself; any other task that is skipped has not started.
    """
    return state in {"success", "failed"} or (state == "skipped" and operator == "SnapshotRecordsOperator")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
