"""Changes of the champion: promotions and rollbacks, each with who, when and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mnist_ops.domain.errors import Permanent, Transient
from mnist_ops.domain.records import BundleRef


@dataclass(frozen=True, slots=True)
class Promotion:
    """Who changes the champion, when and why.

    Attributes:
        at: when (UTC).
        who: a person's name, or the key of a run.
        why: one line for people.
    """

    at: datetime
    who: str
    why: str


class Action(StrEnum):
    """What changed the champion."""

    PROMOTION = "promotion"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class ChampionChange:
    """One change of the champion.

    Attributes:
        action: promotion or rollback.
        bundle: the champion after it.
        former: the champion before it; None if there was none.
        promotion: who did it, when and why.
    """

    action: Action
    bundle: BundleRef
    former: BundleRef | None
    promotion: Promotion


class Standing(StrEnum):
    """Whether a released model is, was, or never was in production."""

    CHAMPION = "champion"
    FORMER = "former"
    CANDIDATE = "candidate"


def standing_of(bundle: BundleRef, history: Sequence[ChampionChange]) -> Standing:
    """Whether a released model is, was, or never was in production, by every change, newest first."""
    if history and history[0].bundle == bundle:
        return Standing.CHAMPION
    was_champion = any(change.bundle == bundle for change in history)
    return Standing.FORMER if was_champion else Standing.CANDIDATE


def restored_by_rollback(
    name: str, history: Sequence[ChampionChange], expected: BundleRef | None = None
) -> BundleRef:
    """The champion that a rollback restores: the one before the promotion of the present one.

    A rollback undoes a promotion, so the next rollback goes one champion further back.

    Args:
        name: the model's name.
        history: every change of its champion, newest first.
        expected: what the present champion must be; None for any.

    Raises:
        Permanent: nothing was champion before the present one.
        Transient: the present one is not the expected one.
    """
    if expected is not None and history and history[0].bundle != expected:
        raise Transient(f"{name}: the champion was changed at the same moment; look again")
    champions = [history[-1].former] if history else []
    for change in reversed(history):
        if change.action is Action.PROMOTION:
            champions.append(change.bundle)
        else:
            champions.pop()
    former = champions[-2] if len(champions) > 1 else None
    if former is None:
        raise Permanent(f"{name}: there is no former champion to roll back to")
    return former


def rolled_back(bundle: BundleRef, history: Sequence[ChampionChange]) -> ChampionChange | None:
    """The rollback that took a bundle out of production; None if the bundle's last change was another one."""
    for change in history:
        if bundle == change.bundle:
            return None
        if bundle == change.former:
            return change if change.action is Action.ROLLBACK else None
    return None
