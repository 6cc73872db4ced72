"""The run that somebody means: by its key, its Airflow run id, or the beginning of either."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote

from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.ports import RunStore

LedgerDocument = Mapping[str, Any]

_MOST = 3  # runs that one message names
_COMPARED = 500  # runs, the newest ones, that an unknown name is compared with


def readable_run(key: str) -> str:
    """A run key as people see it: `dag_id/run_id`, not percent-encoded."""
    return unquote(key)


def ledgers_of(runs: RunStore, beginning: str) -> list[LedgerDocument]:
    """The ledgers of all runs that a beginning names, oldest first."""
    return [
        ledger
        for ledger in runs.ledgers()
        if any(name.startswith(beginning) for name in _names(str(ledger["run"])))
    ]


def find_ledger(runs: RunStore, run: str, generation: int | None = None) -> LedgerDocument:
    """The ledger of one run, that of its newest generation unless another is named.

    Args:
        runs: the store of ledgers.
        run: its key or its Airflow run id, percent-encoded or not, or a beginning that no other run has.
        generation: the number of the generation.

    Raises:
        UsageError: no run, or several, go by this name; or there is no such generation.
    """
    found = ledgers_of(runs, run)
    exact = [ledger for ledger in found if run in _names(str(ledger["run"]))]
    found = exact or found
    keys = list(dict.fromkeys(str(ledger["run"]) for ledger in found))
    if not keys:
        raise UsageError(_unknown(runs, run))
    if len(keys) > 1:
        raise UsageError(f"{run}: may be any of {len(keys)} runs, such as {_listed(keys[-_MOST:])}")
    by_number = {int(ledger["generation"]): ledger for ledger in found}
    number = max(by_number) if generation is None else generation
    if number not in by_number:
        known = ", ".join(map(str, sorted(by_number)))
        raise UsageError(f"{readable_run(keys[0])}: has no generation {number}; there are: {known}")
    return by_number[number]


def _names(key: str) -> set[str]:
    """What a run may be called."""
    run_id = key.partition("/")[2]
    return {key, unquote(key), run_id, unquote(run_id)}


def _unknown(runs: RunStore, run: str) -> str:
    for generation, _ in runs.commits():
        if run in _names(generation.run):
            return f"{readable_run(generation.run)}: has no ledger yet, so it is not finished"
    keys = list(dict.fromkeys(str(ledger["run"]) for ledger in runs.ledgers()))[-_COMPARED:]
    if not keys:
        return f"no run {run!r}: no run is finished yet"
    names = {name: key for key in keys for name in sorted(_names(key))}
    nearest = dict.fromkeys(names[name] for name in get_close_matches(run, names, 4 * _MOST, cutoff=0))
    return f"no run {run!r}; the nearest are: {_listed([*nearest][:_MOST])}"


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(map(readable_run, keys))
