"""The note of a run: what it says in which order, and what is cut."""

from datetime import UTC, datetime, timedelta

import pytest

from mnist_airflow.run_notes import MAX_CHARACTERS, TITLE, TaskEnd, lines_of, note_with

START = datetime(2026, 1, 30, tzinfo=UTC)


def ended(name: str, minute: int | None, state: str = "success", **said: str) -> TaskEnd:
    """A task that ended this number of minutes after the start of its run."""
    return TaskEnd(name, state, START + timedelta(minutes=minute) if minute is not None else None, **said)


# What the tasks said


def test_the_last_task_speaks_first() -> None:
    """The ledger is what a person looks for."""
    tasks = [ended("snapshot", 1, note="3 records\nat any time"), ended("reconcile", 9, note="3 predicted")]
    assert lines_of(tasks) == ["3 predicted", "3 records", "at any time"]


def test_a_line_that_two_tasks_said_is_there_once() -> None:
    """Snapshot and ledger both name the window."""
    tasks = [ended("snapshot", 1, note="3 records\nwindow"), ended("reconcile", 9, note="red\nwindow")]
    assert lines_of(tasks) == ["red", "window", "3 records"]


def test_a_task_that_failed_is_named_first_with_its_error() -> None:
    """In the order in which they failed."""
    tasks = [
        ended("snapshot", 1, note="3 records"),
        ended("reconcile", 9, "failed", error="no outcome of part 1"),
        ended("part.fetch (part 2 of 2)", 5, "failed", error="images.test did not answer"),
        ended("publish (0)", 6, "failed"),
    ]
    assert lines_of(tasks) == [
        "part.fetch (part 2 of 2) failed: images.test did not answer",
        "publish (0) failed: see its log",
        "reconcile failed: no outcome of part 1",
        "3 records",
    ]


def test_a_task_that_failed_with_a_note_has_said_why() -> None:
    """A run over its budget: the note of its ledger begins with the reason."""
    tasks = [ended("reconcile", 9, "failed", note="60 of 60 records failed", error="60 of 60 records failed")]
    assert lines_of(tasks) == ["60 of 60 records failed"]


def test_of_many_failed_tasks_only_the_first_are_named() -> None:
    """The others are counted."""
    tasks = [ended(f"part.fetch ({part})", part, "failed", error="no answer") for part in range(7)]
    assert lines_of(tasks) == [
        *(f"part.fetch ({part}) failed: no answer" for part in range(3)),
        "4 more tasks failed",
    ]


def test_a_task_whose_end_is_not_known_yet_says_its_words_last() -> None:
    """Airflow may note the end after the run's."""
    assert lines_of([ended("plan", None, note="first"), ended("release", 1, note="second")]) == [
        "second",
        "first",
    ]


# The note


def test_a_note_begins_with_the_first_line_and_lists_the_others() -> None:
    """The UI shows one line before a note is opened, then Markdown, which joins plain lines to one."""
    assert note_with(None, ["1 record", "champion lenet5 7"]) == "MNIST Ops: 1 record\n- champion lenet5 7"


def test_an_indented_line_goes_on_with_the_one_before_it() -> None:
    """Two spaces at the end of a line keep its end."""
    assert note_with("", ["not_found:", "  1 http://images.test/1.png: 404"]) == (
        "MNIST Ops: not_found:  \n  `1 http://images.test/1.png: 404`"
    )


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            "1 https://x/![a](https://tracker/p.png): 404",
            "`1 https://x/![a](https://tracker/p.png): 404`",
        ),
        ("1 www.tracker.test", "`1 www.tracker.test`"),
        ("<img src=//tracker/p.png>", "`<img src=//tracker/p.png>`"),
        ("a `![b](c)` d", "a `![b](c)` d"),
        ("a ` b", "`` a ` b ``"),
        ("``a` ![b](c) `", "``` ``a` ![b](c) ` ```"),
        (r"\`![b](c)`", r"`` \`![b](c)` ``"),
        ("without `reclassify`", "without `reclassify`"),
        ("mnist-ops runs show `a", "`` mnist-ops runs show `a ``"),
        ("60 of 60 records failed: not_found (limit 5%)", "60 of 60 records failed: not_found (limit 5%)"),
    ],
)
def test_what_comes_from_outside_is_no_markup(line: str, shown: str) -> None:
    """An image would be requested by the browser of whoever looks at the run."""
    assert note_with("", [line]) == f"MNIST Ops: {shown}"


def test_a_command_is_code_on_one_line() -> None:
    """Also where it goes on over several lines, so that it can be copied."""
    lines = ["To publish:", "mnist-ops runs release-hold dag/run \\", '  --generation 0 --why "…"']
    assert note_with(None, lines).splitlines()[1:] == [
        '- `mnist-ops runs release-hold dag/run --generation 0 --why "…"`'
    ]


def test_a_persons_text_is_kept_above_ours() -> None:
    """Ours is last, under its own title."""
    assert note_with("Asked for by Vera.", ["1 record"]) == "Asked for by Vera.\n\nMNIST Ops: 1 record"


@pytest.mark.parametrize(
    ("former", "persons"),
    [
        ("", ""),
        ("Vera's.", "Vera's."),
        ("\n\nafterwards", "afterwards"),
        ("Vera's.\n\nMore of hers.", "Vera's.\n\nMore of hers."),
    ],
)
def test_a_rerun_replaces_our_paragraph_and_nothing_else(former: str, persons: str) -> None:
    """Whatever a person wrote above it or, after an empty line, below it."""
    first = note_with(former, ["60 of 60 records failed", "not_found:", "  1"])
    again = note_with(f"{first}\n\nbelow", ["60 records: 60 predicted"])
    expected = "\n\n".join(text for text in (persons, "below", f"{TITLE}: 60 records: 60 predicted") if text)
    assert again.replace("\n\n\n", "\n\n") == expected


def test_a_note_is_cut_to_airflows_limit_at_the_end_of_a_line() -> None:
    """It says that there is more."""
    lines = [f"line {number} of a long summary" for number in range(100)]
    note = note_with("Vera's.", lines)
    assert MAX_CHARACTERS - 40 < len(note) <= MAX_CHARACTERS
    assert note.startswith("Vera's.\n\nMNIST Ops: line 0 of a long summary\n")
    assert note.endswith("\n- … the rest is in the tasks' logs")


def test_a_note_that_just_fits_is_not_cut() -> None:
    """To the last character."""
    start = "MNIST Ops: 1 record\n- "
    rest = "x" * (MAX_CHARACTERS - len(start))
    assert note_with(None, ["1 record", rest]) == f"{start}{rest}"
    assert "the rest is" in note_with(None, ["1 record", f"{rest}x"])


def test_where_a_persons_text_leaves_no_room_it_stays_as_it_is() -> None:
    """Theirs is worth more."""
    persons = "x" * (MAX_CHARACTERS - 20)
    assert note_with(persons, ["1 record"]) == persons
