"""The summary of a run for people and programs: what its log, its note and the command line say of it."""

from datetime import datetime

from mnist_ops.domain.ages import duration
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.keys import Generation, is_of_cli
from mnist_ops.domain.outcome_lines import (
    NO_RECORDS,
    age_lines,
    champion_line,
    command_lines,
    counted,
    failure_lines,
    prediction_lines,
    run_argument,
    window_lines,
    wrapped,
)
from mnist_ops.domain.outcomes import Ledger, Outcome


class RunFailed(Permanent):
    """A run is red: over its failure budget, or its outcomes do not add up; its ledger is stored.

    The message has several lines: the reason, what it means, and the command to run on a line of its own.

    Attributes:
        ledger: the run's ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        super().__init__("\n".join(problem_lines(ledger)))
        self.ledger = ledger


def summary_lines(ledger: Ledger) -> list[str]:
    """What happened in a run, in lines of under 100 characters; if it is red or late, that comes first."""
    return problem_lines(ledger) + freshness_lines(ledger) + result_lines(ledger)


def counts(ledger: Ledger) -> dict[str, object]:
    """The numbers of a run as JSON-able values; `model_version` is None for a run without records."""
    return {
        "run": ledger.generation.run,
        "generation": ledger.generation.number,
        "selected": ledger.selected,
        "outcomes": dict(ledger.outcomes),
        "reasons": dict(ledger.reasons),
        "labels": dict(ledger.labels),
        "needs_review": ledger.needs_review,
        "model": ledger.model.name if ledger.model else None,
        "model_version": ledger.model.version if ledger.model else None,
        "over_budget": ledger.over_budget,
        "age_s": ledger.age.document() if ledger.age else None,
    }


def result_lines(ledger: Ledger) -> list[str]:
    """The counts of a run, its window and champion, its predictions and its failures with examples."""
    if not ledger.selected:
        return [NO_RECORDS, *window_lines(ledger.selection)]
    lines = wrapped(f"{ledger.selected} records: {counted(ledger.outcomes) or 'no outcome'}")
    lines += window_lines(ledger.selection)
    if ledger.model is not None:
        lines.append(champion_line(ledger.model))
    lines += prediction_lines(ledger.labels, ledger.needs_review)
    lines += age_lines(ledger.age)
    lines += failure_lines(ledger.reasons, ledger.examples)
    if ledger.superseded:
        lines.append(f"{ledger.superseded} outcomes were replaced by later runs, or their records deleted")
    return lines


def problem_lines(ledger: Ledger) -> list[str]:
    """Why a run is red, and what to do; nothing if it is green."""
    problems = ledger.problems()
    lines = [line for problem in problems for line in wrapped(problem)]
    if problems:
        lines += _how_to_complete(ledger)
    if ledger.held_because is not None:
        lines += [*wrapped(ledger.held_because), *_how_to_release(ledger)]
    return lines


def freshness_lines(ledger: Ledger) -> list[str]:
    """By how much a run missed its freshness objective, and where the time went; nothing if it did not."""
    if ledger.age is None or ledger.freshness_s is None or ledger.age.p95 <= ledger.freshness_s:
        return []
    missed = (
        f"late: age p95 is {duration(ledger.age.p95)}, the objective (MNIST_OPS_FRESHNESS_S) is "
        f"{duration(ledger.freshness_s)}"
    )
    took_s = (ledger.finished_at - datetime.fromisoformat(str(ledger.selection["at"]))).total_seconds()
    took, slowest = duration(took_s), ledger.bottleneck()
    if took_s < ledger.age.p95 / 2:
        why = f"most of it was before this run, which took {took}: let runs begin more often"
    elif slowest is not None:
        why = f"this run took {took}; bottleneck {slowest['stage']}: {slowest['doing']}"
    else:
        why = f"this run took {took}"
    return [*wrapped(missed), *wrapped(why)]


def _how_to_complete(ledger: Ledger) -> list[str]:
    if not ledger.missing_parts:
        shown = command_lines(f"mnist-ops runs show {_named(ledger.generation)}")
        return ["Was MongoDB restored from a backup, or a task changed? Look at the run:", *shown]
    if is_of_cli(ledger.generation):
        return ["Continue the run:", *_resume(ledger.manifest)]
    return [
        "Look at the logs of the tasks that failed: fetch, classify, assess or publish.",
        "Fix the cause, then clear them with all tasks after them.",
    ]


def _how_to_release(ledger: Ledger) -> list[str]:
    held, retried = ledger.outcomes[Outcome.HELD], ledger.outcomes[Outcome.RETRY_LATER]
    failed = max(Outcome.QUARANTINED, Outcome.RETRY_LATER, key=lambda outcome: ledger.outcomes[outcome])
    return [
        f"{held} predictions are held: they are not in MongoDB." if held else "No prediction is held.",
        "Look at the failures:",
        *command_lines(f"mnist-ops records list --run {_named(ledger.generation)} --outcome {failed}"),
        *([f"Fix the cause: later runs try {retried} failed records again."] if retried else []),
        *release_lines(ledger.generation, ledger.manifest, held),
    ]


def release_lines(generation: Generation, manifest: str, held: int) -> list[str]:
    """The commands that release a run over its budget, which has `held` predictions."""
    of_cli = is_of_cli(generation)
    aim = "publish the predictions" if held else "accept the failures"
    then = "resume it" if of_cli else "clear the task assess"
    release = f'mnist-ops runs release-hold {_named(generation)} --why "…"'
    return [
        f"To {aim} anyway, release the run, then {then}:",
        *command_lines(release),
        *(_resume(manifest) if of_cli else []),
    ]


def _named(generation: Generation) -> str:
    """A generation as the arguments of a command."""
    return f"{run_argument(generation.run)} --generation {generation.number}"


def _resume(manifest: str) -> list[str]:
    return command_lines(f"mnist-ops runs resume {manifest}")
