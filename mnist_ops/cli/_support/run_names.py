"""The run that somebody means: by its key, its Airflow run id, or the beginning of either."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote

from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.ports import RunStore

LedgerDocument = Mapping[str, Any]

_MOST = 3  # runs that one message names
_COMPARED = 500  # runs, the newest ones, that an unknown name is compared with


def readable_run(key: str) -> str:
    """A run key as people see it: `dag_id/run_id`, not percent-encoded."""
    return unquote(key)


def ledgers_of(runs: RunStore, beginning: str) -> list[LedgerDocument]:
    """The ledgers of all runs that a beginning names, oldest first.

    Raises:
        UsageError: no run with a ledger begins so; an empty beginning is that of any run.
    """
    ledgers = list(runs.ledgers())
    found = [ledger for ledger in ledgers if _begins(str(ledger["run"]), beginning)]
    if beginning and not found:
        _refuse_unfinished(runs, beginning)
        raise UsageError(_unknown(beginning, list(dict.fromkeys(str(ledger["run"]) for ledger in ledgers))))
    return found


def find_ledger(runs: RunStore, run: str, generation: int | None = None) -> LedgerDocument:
    """The ledger of one run, that of its newest generation unless another is named.

    Args:
        runs: the store of ledgers.
        run: its key or its Airflow run id, percent-encoded or not, or a beginning that no other run has.
        generation: the number of the generation.

    Raises:
        UsageError: no run, or several, go by this name; or the run or generation has no ledger.
    """
    ledgers = {Generation(str(one["run"]), int(str(one["generation"]))): one for one in runs.ledgers()}
    if not any(_begins(known.run, run) for known in ledgers):
        _refuse_unfinished(runs, run)
    return ledgers[_find(run, generation, ledgers)]


def _refuse_unfinished(runs: RunStore, run: str) -> None:
    for unfinished, _ in runs.commits():
        if run in _names(unfinished.run):
            raise UsageError(f"{readable_run(unfinished.run)}: has no ledger yet, so it is not finished")


def find_commit(runs: RunStore, run: str, generation: int | None = None) -> tuple[Generation, str]:
    """The generation of a run that has taken its snapshot, with its manifest; see `find_ledger`."""
    commits = dict(runs.commits())
    found = _find(run, generation, commits)
    return found, commits[found]


def _find(run: str, number: int | None, known: Iterable[Generation]) -> Generation:
    """The newest generation, or that of a number, of the one run that goes by a name."""
    generations = list(known)
    named = [one for one in generations if run in _names(one.run)]
    named = named or [one for one in generations if _begins(one.run, run)]
    keys = list(dict.fromkeys(one.run for one in named))
    if not keys:
        raise UsageError(_unknown(run, list(dict.fromkeys(one.run for one in generations))))
    if len(keys) > 1:
        raise UsageError(f"{run}: may be any of {len(keys)} runs, such as {_listed(keys[-_MOST:])}")
    numbers = sorted(one.number for one in named)
    if number is not None and number not in numbers:
        there = ", ".join(map(str, numbers))
        raise UsageError(f"{readable_run(keys[0])}: has no generation {number}; there are: {there}")
    return Generation(keys[0], numbers[-1] if number is None else number)


def _names(key: str) -> set[str]:
    """What a run may be called."""
    run_id = key.partition("/")[2]
    return {key, unquote(key), run_id, unquote(run_id)}


def _begins(key: str, beginning: str) -> bool:
    return any(name.startswith(beginning) for name in _names(key))


def _unknown(run: str, keys: Sequence[str]) -> str:
    if not keys:
        return f"no run {run!r}: there is no run yet"
    names = {name: key for key in keys[-_COMPARED:] for name in sorted(_names(key))}
    nearest = dict.fromkeys(names[name] for name in get_close_matches(run, names, 4 * _MOST, cutoff=0))
    return f"no run {run!r}; the nearest are: {_listed([*nearest][:_MOST])}"


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(map(readable_run, keys))
