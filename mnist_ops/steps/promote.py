"""Promote: a released candidate becomes the champion, because the gate or a person decided so."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from mnist_ops.domain.champions import Promotion, rolled_back
from mnist_ops.domain.errors import Permanent, Transient
from mnist_ops.domain.gate import Disagreements
from mnist_ops.domain.outcome_lines import log_lines, wrapped
from mnist_ops.domain.ports import ModelRegistry, RegisteredModel
from mnist_ops.domain.records import BundleRef
from mnist_ops.validation import problems_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GateResult:
    """The gate's decision about a released model, and whether the model was promoted.

    Attributes:
        bundle: as registered.
        promote: whether it may become champion.
        promoted: whether it was made champion; releasing a model never does that.
        why: one line for people, with the numbers that the decision depends on.
        champion: the bundle it was compared with; None where there was none.
        p_value: of McNemar's exact test; None without a champion.
        disagreements: the test digits that only one of the two got right; None without a champion.
    """

    bundle: BundleRef
    promote: bool
    promoted: bool
    why: str
    champion: BundleRef | None = None
    p_value: float | None = None
    disagreements: Disagreements | None = None

    def document(self) -> dict[str, object]:
        """As JSON-able values."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, object]) -> "GateResult":
        """Read what `document` gave.

        Raises:
            Permanent: it is not a gate result.
        """
        try:
            return _GATE_RESULT.validate_python(document)
        except ValidationError as error:
            raise Permanent(f"not a gate result ({problems_of(error)[0]})") from error


_GATE_RESULT = TypeAdapter(GateResult)


def promote_candidate(
    gate_result: GateResult, *, models: ModelRegistry, who: str, at: datetime, why: str | None = None
) -> GateResult:
    """Make a released model the champion if the gate allows it; repeating it changes nothing.

    Args:
        gate_result: what its release returned.
        models: the registry.
        who: who promotes it: a person or a run.
        at: when (UTC).
        why: the reason to record; None for the gate's reason.

    Returns:
        The gate's result with `promoted` set; unchanged if the gate refused the model.

    Raises:
        Permanent: the champion is not the one that the model was compared with, or the model was rolled back.
    """
    bundle = gate_result.bundle
    if not gate_result.promote:
        log_lines(_log, wrapped(f"{bundle.name} {bundle.version} stays a candidate: {gate_result.why}"))
        return gate_result
    rollback = rolled_back(bundle, models.history(bundle.name))
    if rollback is not None:
        raise Permanent(
            f"{bundle.name} {bundle.version} was rolled back by {rollback.promotion.who}: "
            f"{rollback.promotion.why}; only a person may promote it again (`mnist-ops models promote`)"
        )
    if not models.promote(bundle, gate_result.champion, Promotion(at, who, why or gate_result.why)):
        raise Permanent(
            f"{bundle.name}: the champion has changed since version {bundle.version} was compared with it; "
            "clear `evaluate`, so that the two are compared again"
        )
    log_lines(_log, wrapped(f"{bundle.name} {bundle.version} is the champion: {gate_result.why}"))
    return replace(gate_result, promoted=True)


def promote_version(
    model: RegisteredModel,
    *,
    models: ModelRegistry,
    promotion: Promotion,
    force: bool = False,
    champion: BundleRef | Literal["present"] | None = "present",
) -> bool:
    """Make a registered model the champion because a person decided so.

    Args:
        model: the version.
        models: the registry.
        promotion: who, when and why.
        force: promote it even if the gate refused it, never decided about it, or compared it with a champion
            that is no longer in production.
        champion: the one that the person saw; nothing is changed if it is another one by now.

    Returns:
        False if it was the champion already, else True.

    Raises:
        Permanent: without `force`, where `force` would be needed.
        Transient: somebody else changed the champion at the same moment.
    """
    bundle = model.bundle
    if champion == "present":
        champion = models.champion(bundle.name)
    objection = None if force or champion == bundle else objection_to(model, champion)
    if objection is not None:
        raise Permanent(f"{bundle.name} {bundle.version}: {objection}; --force promotes it anyway")
    if not models.promote(bundle, champion, promotion):
        raise Transient(f"{bundle.name}: the champion was changed at the same moment; try again")
    return champion != bundle


def objection_to(model: RegisteredModel, champion: BundleRef | None) -> str | None:
    """Why the gate's decision does not allow the model to replace this champion; None if it does."""
    decision = model.decision
    if decision is None:
        return "the gate never decided about it"
    if not decision.promote:
        return decision.why
    if decision.compared_with == champion:
        return None
    measured = _named(decision.compared_with)
    return f"it was compared with {measured}, and the champion is {_named(champion)}; evaluate it again"


def _named(champion: BundleRef | None) -> str:
    return f"version {champion.version} ({champion.digest})" if champion else "none"
