"""The released models: metrics, promotion and rollback."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.records import BundleRef
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.access import Admin, Viewer
from mnist_ops.serving.deployment import PipelineDep
from mnist_ops.serving.model_charts import model_charts
from mnist_ops.serving.pictures import as_fetched, as_network_sees_it
from mnist_ops.serving.problems import Problem
from mnist_ops.serving.queries.released_models import (
    PLOTS,
    VersionDetail,
    find_version,
    version_detail,
    versions,
)
from mnist_ops.serving.templating import page, url
from mnist_ops.steps.promote import objection_to

router = APIRouter(include_in_schema=False)

_LONGEST_REASON = 500  # characters
_PLOT_SIDE = 1400  # pixels; the plots of a report are no larger
_NO_CHAMPION = "none"

Number = Annotated[int, Query(ge=1, lt=2**31)]


class ChampionForm(BaseModel):
    """A form that changes the champion.

    Attributes:
        seen: the champion that the page showed, so that nobody replaces one that they have not seen.
        reason: why.
    """

    seen: str
    reason: Annotated[str, Field(max_length=_LONGEST_REASON)] = ""


class PromotionForm(ChampionForm):
    """The form that promotes a version.

    Attributes:
        version: the version.
        anyway: whether to promote it although the gate does not allow it.
    """

    version: Annotated[int, Field(ge=1, lt=2**31)]
    anyway: bool = False


@router.get("/models")
def list_models(
    request: Request,
    user: Viewer,
    pipeline: PipelineDep,
    before: Number | None = None,
    changed: bool = False,
) -> HTMLResponse:
    """All versions, newest first, and every change of the champion."""
    listed = versions(pipeline, before)
    seen = champion_text(listed.champion.bundle if listed.champion else None)
    return page(request, "models.html.jinja", user=user, listed=listed, seen=seen, changed=changed)


@router.get("/model")
def show_model(request: Request, user: Viewer, pipeline: PipelineDep, version: Number) -> HTMLResponse:
    """One version: what was measured, and the form that promotes it."""
    detail = version_detail(pipeline, version)
    if detail is None:
        raise _no_version(pipeline, version)
    return page(
        request,
        "model.html.jinja",
        user=user,
        detail=detail,
        seen=champion_text(detail.champion),
        charts=model_charts(detail.data) if detail.data else {},
        worst=[
            (example, as_network_sees_it(example.pixels))
            for example in (detail.data.worst if detail.data else ())
        ],
        plots=_plots(detail),
    )


@router.post("/model/promote")
def promote(
    request: Request, user: Admin, pipeline: PipelineDep, form: Annotated[PromotionForm, Form()]
) -> RedirectResponse:
    """Make a version the champion."""
    why = _reason(form)
    model = find_version(pipeline, form.version)
    if model is None:
        raise _no_version(pipeline, form.version)
    champion = _require_seen(pipeline, form)
    objection = None if form.anyway or model.bundle == champion else objection_to(model, champion)
    if objection is not None:
        raise Problem(
            409,
            "The gate does not allow it",
            f"{objection}. To promote version {form.version} in spite of that, tick “Promote it anyway”.",
        )
    promotion = Promotion(pipeline.now(), user.name, why)
    pipeline.promote_version(model, promotion, force=form.anyway, champion=champion)
    return RedirectResponse(url(request, "/models", changed=1), 303)


@router.post("/models/rollback")
def roll_back(
    request: Request, user: Admin, pipeline: PipelineDep, form: Annotated[ChampionForm, Form()]
) -> RedirectResponse:
    """Restore the champion before the present one."""
    why = _reason(form)
    pipeline.rollback(user.name, why, _require_seen(pipeline, form))
    return RedirectResponse(url(request, "/models", changed=1), 303)


def champion_text(champion: BundleRef | None) -> str:
    """A champion as a form sends it back."""
    return f"{champion.version} {champion.digest}" if champion else _NO_CHAMPION


def _require_seen(pipeline: Pipeline, form: ChampionForm) -> BundleRef | None:
    """The champion, which is the one that the page showed."""
    history = pipeline.adapters.models.history(pipeline.settings.model_name)
    champion = history[0].bundle if history else None
    if champion_text(champion) == form.seen:
        return champion
    now = f"version {champion.version} by now" if champion else "no version"
    last = history[0].promotion if history else None
    by = f", by {last.who} at {last.at:%Y-%m-%d %H:%M} UTC: {last.why}" if last else ""
    raise Problem(
        409,
        "The champion has changed meanwhile",
        f"The champion is {now}{by}. Nothing was changed. Open the page again before you decide.",
    )


def _reason(form: ChampionForm) -> str:
    if not form.reason.strip():
        raise Problem(
            422,
            "A reason is needed",
            "Write a line that says why. It is kept in the history with your name.",
        )
    return " ".join(form.reason.split())


def _no_version(pipeline: Pipeline, version: int) -> Problem:
    return Problem(
        404,
        "There is no such version",
        f"{pipeline.settings.model_name} has no version {version}. The list of models shows all.",
    )


def _plots(detail: VersionDetail) -> dict[str, str]:
    """The plots of an older bundle as data URIs, by heading; what is no picture is left out."""
    shown = {}
    for name, payload in detail.plots.items():
        try:
            shown[PLOTS[name]] = as_fetched(payload, _PLOT_SIDE)
        except ItemRejected:
            continue
    return shown
