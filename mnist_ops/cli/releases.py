"""A measured training at the command line becomes a candidate, and the champion if it may be."""

import getpass
from typing import TYPE_CHECKING

from mnist_ops.cli.options import now

if TYPE_CHECKING:
    from mnist_ops.steps.promote import Verdict
    from mnist_ops.wiring import Adapters


def release_evaluated(adapters: "Adapters", evaluation: str) -> "Verdict":
    """Release the training of an evaluation; promote it if the gate allows it and no approval is asked for.

    Args:
        adapters: of the deployment.
        evaluation: the evaluation's URI.
    """
    from mnist_ops.steps.promote import promote_candidate
    from mnist_ops.steps.release import release

    settings = adapters.settings
    verdict = release(
        evaluation,
        objects=adapters.objects,
        models=adapters.models,
        model_name=settings.model_name,
        gate=settings.gate,
        now=now,
    )
    if settings.require_approval:
        return verdict
    return promote_candidate(verdict, models=adapters.models, who=getpass.getuser(), at=now())
