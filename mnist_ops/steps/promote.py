"""Promote: a released candidate becomes the champion, by the gate's word or by a person's."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from mnist_ops.domain.champions import Promotion, rolled_back
from mnist_ops.domain.errors import Permanent, Transient
from mnist_ops.domain.gate import Decision, Disagreements
from mnist_ops.domain.ports import ModelRegistry, RegisteredModel
from mnist_ops.domain.records import BundleRef

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate said of a released model, and what came of it.

    Attributes:
        bundle: as registered.
        promote: whether it may become champion.
        promoted: whether it was made champion; a release alone never does that.
        why: one line for people, with the numbers that decided.
        champion: the bundle it was compared with; None where there was none.
        p_value: of McNemar's exact test; None without a champion.
        disagreements: the test digits that one of the two alone got right; None without a champion.
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
    def of(cls, document: Mapping[str, object]) -> "Verdict":
        """Read what `document` gave.

        Raises:
            Permanent: it is no verdict.
        """
        try:
            return _VERDICT.validate_python(document)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, problem["loc"]))
            raise Permanent(f"not a verdict ({where}: {problem['msg']})") from error


_VERDICT = TypeAdapter(Verdict)


def promote_candidate(
    verdict: Verdict, *, models: ModelRegistry, who: str, at: datetime, why: str | None = None
) -> Verdict:
    """Make a released model the champion where the gate allows it; repeating it changes nothing.

    Args:
        verdict: of its release.
        models: the registry.
        who: who promotes it: a person, or the run that does.
        at: when (UTC).
        why: what to note beside it; None for the verdict's reason.

    Returns:
        The verdict, with what came of it. One that the gate refused comes back as it is.

    Raises:
        Permanent: the champion is another one than it was compared with, or this one was rolled back.
    """
    bundle = verdict.bundle
    if not verdict.promote:
        _log.info("%s %d stays a candidate: %s", bundle.name, bundle.version, verdict.why)
        return verdict
    rollback = rolled_back(bundle, models.history(bundle.name))
    if rollback is not None:
        raise Permanent(
            f"{bundle.name} {bundle.version} was rolled back by {rollback.promotion.who}: "
            f"{rollback.promotion.why}; only a person may promote it again (`mnist-ops models promote`)"
        )
    if not models.promote(bundle, verdict.champion, Promotion(at, who, why or verdict.why)):
        raise Permanent(
            f"{bundle.name}: the champion has changed since version {bundle.version} was compared with it; "
            "clear `evaluate`, so that the two are compared anew"
        )
    _log.info("%s %d is the champion: %s", bundle.name, bundle.version, verdict.why)
    return replace(verdict, promoted=True)


def promote_version(
    model: RegisteredModel, *, models: ModelRegistry, promotion: Promotion, force: bool = False
) -> bool:
    """Make a registered model the champion because a person says so.

    Args:
        model: the version.
        models: the registry.
        promotion: who, when and why.
        force: promote it although the gate refused it, was never asked, or compared it with another
            champion than the one it would replace.

    Returns:
        Whether that changed anything: False where it was the champion already.

    Raises:
        Permanent: the gate refused it, was never asked, or compared it with another champion, and nobody
            forces it.
        Transient: somebody else changed the champion at the same moment.
    """
    bundle, decision = model.bundle, model.decision
    champion = models.champion(bundle.name)
    if champion == bundle:
        return False
    objection = None if force else _objection(decision, champion)
    if objection is not None:
        raise Permanent(f"{bundle.name} {bundle.version}: {objection}; --force promotes it all the same")
    if not models.promote(bundle, champion, promotion):
        raise Transient(f"{bundle.name}: the champion was changed at the same moment; look again")
    return True


def _objection(decision: Decision | None, champion: BundleRef | None) -> str | None:
    """What speaks against replacing this champion by the gate's word; None where nothing does."""
    if decision is None:
        return "the gate was never asked about it"
    if not decision.promote:
        return decision.why
    if decision.holds_against(champion):
        return None
    measured = _named(decision.compared_with)
    return f"it was compared with {measured}, and the champion is {_named(champion)}; evaluate it again"


def _named(champion: BundleRef | None) -> str:
    return f"version {champion.version} ({champion.digest})" if champion else "none"
