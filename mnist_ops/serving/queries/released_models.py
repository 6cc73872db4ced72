"""What the pages of models show, from the registry and the bundles' folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from mnist_ops.domain.champions import ChampionChange, Standing, restored_by_rollback, standing_of
from mnist_ops.domain.errors import Damaged, ObjectMissing, Permanent
from mnist_ops.domain.ports import ObjectStore, RegisteredModel
from mnist_ops.domain.records import BundleRef
from mnist_ops.pipeline import Pipeline
from mnist_ops.steps.artifacts.bundles import read_card
from mnist_ops.steps.promote import objection_to
from mnist_ops.validation import problems_of
from mnist_ops.vision.inference.bundle import Card
from mnist_ops.vision.release.report_data import FILE, ReportData, parse_report_data

PAGE = 100
_REPORT = "report"
# The plots of bundles without data for charts, by name.
PLOTS: Mapping[str, str] = {
    "learning-curves": "Learning curves",
    "reliability": "Reliability",
    "worst-examples": "Worst examples",
}


@dataclass(frozen=True, slots=True)
class Version:
    """A released model, as a list shows it.

    Attributes:
        model: as registered.
        standing: champion, former champion or candidate.
    """

    model: RegisteredModel
    standing: Standing


@dataclass(frozen=True, slots=True)
class Versions:
    """A page of released models.

    Attributes:
        name: the model's name.
        versions: newest first.
        before: the version that the next page begins below; None on the last page.
        champion: the model in production, on whichever page it is; None if there is none.
        history: the newest changes of the champion, newest first.
        rollback_to: the champion that a rollback restores; None if there was none before.
    """

    name: str
    versions: Sequence[Version]
    before: int | None
    champion: RegisteredModel | None
    history: Sequence[ChampionChange]
    rollback_to: BundleRef | None


@dataclass(frozen=True, slots=True)
class VersionDetail:
    """A released model, with what its bundle says of it.

    Attributes:
        version: as in the list.
        objection: why the gate does not allow promoting it; None if it does, or if it is the champion.
        champion: the bundle in production.
        history: every change of the champion to or from it, newest first.
        card: the bundle's card; None if it cannot be read.
        data: what the charts are drawn from; None for an older bundle.
        plots: the pictures of such a bundle, as they are stored, by their name in `PLOTS`.
        problem: why the bundle cannot be shown; None if it can.
    """

    version: Version
    objection: str | None
    champion: BundleRef | None
    history: Sequence[ChampionChange]
    card: Card | None
    data: ReportData | None
    plots: Mapping[str, bytes]
    problem: str | None


def versions(pipeline: Pipeline, before: int | None = None) -> Versions:
    """A page of released models, newest first.

    Args:
        pipeline: of the deployment.
        before: begin below this version; None for the newest.
    """
    name, registry = pipeline.settings.model_name, pipeline.adapters.models
    history = registry.history(name)
    registered = registry.models(name)
    champion = history[0].bundle if history else None
    older = [model for model in reversed(registered) if before is None or model.bundle.version < before]
    shown = older[:PAGE]
    return Versions(
        name=name,
        versions=[Version(model, standing_of(model.bundle, history)) for model in shown],
        before=shown[-1].bundle.version if len(older) > PAGE else None,
        champion=next((model for model in registered if model.bundle == champion), None),
        history=history[:PAGE],
        rollback_to=_rollback_to(name, history),
    )


def version_detail(pipeline: Pipeline, version: int) -> VersionDetail | None:
    """One released model; None if there is no such version."""
    model = find_version(pipeline, version)
    if model is None:
        return None
    objects, history = pipeline.adapters.objects, pipeline.adapters.models.history(model.bundle.name)
    champion = history[0].bundle if history else None
    card, problem = _card(objects, model.bundle)
    data, data_problem = _data(objects, model.bundle)
    return VersionDetail(
        version=Version(model, standing_of(model.bundle, history)),
        objection=None if champion == model.bundle else objection_to(model, champion),
        champion=champion,
        history=[change for change in history if model.bundle in (change.bundle, change.former)][:PAGE],
        card=card,
        data=data,
        plots={} if data else _plots(objects, model.bundle),
        problem=problem or data_problem,
    )


def find_version(pipeline: Pipeline, version: int) -> RegisteredModel | None:
    """A version as registered; None if there is no such one."""
    models = pipeline.adapters.models.models(pipeline.settings.model_name)
    return next((model for model in models if model.bundle.version == version), None)


def _rollback_to(name: str, history: Sequence[ChampionChange]) -> BundleRef | None:
    try:
        return restored_by_rollback(name, history)
    except Permanent:
        return None


def _card(objects: ObjectStore, bundle: BundleRef) -> tuple[Card | None, str | None]:
    """The bundle's card, or why it cannot be read."""
    try:
        return Card.model_validate(read_card(objects, bundle)), None
    except (ObjectMissing, Damaged) as error:
        return None, str(error)
    except ValidationError as error:
        return None, f"{bundle.uri}: its card is of another release: {problems_of(error)[0]}"


def _data(objects: ObjectStore, bundle: BundleRef) -> tuple[ReportData | None, str | None]:
    """The data of the report's charts; None without a problem for a bundle that has none."""
    uri = f"{bundle.uri}/{_REPORT}/{FILE}"
    try:
        return parse_report_data(objects.get_bytes(uri), uri), None
    except ObjectMissing:
        return None, None
    except Damaged as error:
        return None, str(error)


def _plots(objects: ObjectStore, bundle: BundleRef) -> dict[str, bytes]:
    found = {}
    for name in PLOTS:
        try:
            found[name] = objects.get_bytes(f"{bundle.uri}/{_REPORT}/{name}.png")
        except ObjectMissing:
            continue
    return found
