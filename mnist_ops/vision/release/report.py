"""The report of a released model: one page that needs nothing but itself, and its plots."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.gate import Disagreements
from mnist_ops.domain.statistics import mcnemar_exact
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.evaluation.calibration import reliability
from mnist_ops.vision.evaluation.metrics import Evaluation
from mnist_ops.vision.inference.bundle import Card
from mnist_ops.vision.inference.classifier import softmax
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.release import plots
from mnist_ops.vision.release.report_style import STYLE

INDEX = "index.html"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # the page loads nothing
TEST, VALIDATION = "test", "validation"


@dataclass(frozen=True, slots=True)
class Champion:
    """What the model was compared with.

    Attributes:
        version: of the champion.
        digest: of its bundle.
        test: its measures on the same test fold.
        disagreements: the examples of that fold which one of the two alone got right.
    """

    version: int
    digest: str
    test: Evaluation
    disagreements: Disagreements


@dataclass(frozen=True, slots=True)
class ReportedModel:
    """All that a report tells.

    Attributes:
        title: for the heading, such as "lenet5, version 7".
        digest: of the bundle.
        card: the bundle's card; its metrics are the calibrated ones.
        trained: the training.
        uncalibrated: the measures by fold at temperature 1.
        examples: the test fold.
        logits: float32 (N, 10) of those examples.
        champion: the comparison, where there was a champion; it may have been this model.
    """

    title: str
    digest: str
    card: Card
    trained: TrainedModel
    uncalibrated: Mapping[str, Evaluation]
    examples: Examples
    logits: NDArray[np.float32]
    champion: Champion | None

    @property
    def rival(self) -> Champion | None:
        """The champion, where that was another model."""
        return self.champion if self.champion and self.champion.digest != self.digest else None


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture of the report.

    Attributes:
        name: of its file, without the suffix.
        title: for its heading.
        says: what to see in it, for people and as its text where pictures are not shown.
        png: its bytes.
    """

    name: str
    title: str
    says: str
    png: bytes


def write_report(folder: Path, model: ReportedModel) -> Path:
    """Write `report/index.html` and its plots into a bundle's folder; the digest does not cover them.

    The page loads nothing: its pictures are in it, it has no scripts, and everything that comes from
    outside, such as a label, is escaped.

    Args:
        folder: the bundle's.
        model: what to tell.

    Returns:
        The page.
    """
    report = folder / "report"
    report.mkdir(parents=True, exist_ok=True)
    drawn = _plots(model)
    for plot in drawn:
        (report / f"{plot.name}.png").write_bytes(plot.png)
    page = report / INDEX
    page.write_text(_page(model, drawn), encoding="utf-8")
    return page


def _plots(model: ReportedModel) -> list[Plot]:
    labels, truth = model.card.labels, model.examples.labels
    before, after = (softmax(model.logits, temperature) for temperature in (1.0, model.card.temperature))
    worst = plots.worst_mistakes(after, truth)
    figures = [
        (
            "learning-curves",
            "Learning curves",
            f"Training and validation by epoch; the weights of epoch {model.trained.best_epoch} were kept.",
            plots.learning_curves(model.trained),
        ),
        (
            "confusion",
            "Confusion",
            "Test digits by label (row) and prediction (column): blue is right, orange is wrong.",
            plots.confusion_matrix(model.card.metrics[TEST], labels),
        ),
        (
            "reliability",
            "Reliability",
            "Accuracy against confidence on the test fold. On the dashed line, 90 % sure is 90 % right.",
            plots.reliability_diagram(reliability(before, truth), reliability(after, truth)),
        ),
        (
            "worst-examples",
            "Worst examples",
            "The test digits with the highest loss: their label, and what they were taken for.",
            plots.worst_examples(model.examples, worst, labels),
        ),
    ]
    return [Plot(name, title, says, plots.png(figure)) for name, title, says, figure in figures]


def _page(model: ReportedModel, drawn: Iterable[Plot]) -> str:
    by_name = {plot.name: _plot(plot) for plot in drawn}
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(model.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(model.title)}</h1>
<p>{_subtitle(model)}</p>
</header>
<main>
<section class="tiles">{_tiles(model)}</section>
<section class="card"><h2>Before and after the temperature</h2>{_measures(model)}</section>
<section class="card"><h2>Against the champion</h2>{_comparison(model)}</section>
{by_name["learning-curves"]}
<div class="pair">{by_name["confusion"]}{by_name["reliability"]}</div>
{by_name["worst-examples"]}
<section class="card"><h2>By class</h2>{_classes(model)}</section>
<section class="card"><h2>Hyperparameters</h2>{_pairs(model.card.hyperparameters, "pairs columns")}</section>
<section class="card"><h2>Provenance</h2>{_pairs(_provenance(model), "pairs")}</section>
</main>
</body>
</html>
"""


def _subtitle(model: ReportedModel) -> str:
    network = model.card.architecture
    samples = model.card.metrics[TEST].samples
    return escape(
        f"{network.network}, {network.parameters:,} parameters, measured on {samples:,} digits of the "
        "test fold that neither training nor calibration saw"
    )


def _tiles(model: ReportedModel) -> str:
    test, plain = model.card.metrics[TEST], model.uncalibrated[TEST]
    tiles = [
        ("Accuracy", f"{test.accuracy:.2%}", f"{test.accuracy_low:.2%} to {test.accuracy_high:.2%}"),
        ("NLL", f"{test.nll:.4f}", "nats"),
        ("Brier", f"{test.brier:.4f}", "of 2"),
        ("ECE", f"{test.ece:.4f}", f"{plain.ece:.4f} before"),
        ("Temperature", f"{model.card.temperature:.3g}", "fitted on validation"),
    ]
    if model.rival is not None:
        gained = test.accuracy - model.rival.test.accuracy
        tiles.append(("Champion", f"{100 * gained:+.2f}", f"points over v{model.rival.version}"))
    return "".join(
        f'<div class="tile"><span>{escape(name)}</span><strong>{escape(value)}</strong>'
        f"<small>{escape(note)}</small></div>"
        for name, value, note in tiles
    )


def _measures(model: ReportedModel) -> str:
    rows = [
        (f"{fold}, {state}", *_numbers(measures[fold]))
        for fold in (VALIDATION, TEST)
        for state, measures in (("temperature 1", model.uncalibrated), ("calibrated", model.card.metrics))
        if fold in measures
    ]
    return _table(("fold", "digits", "accuracy", "95 % interval", "NLL", "Brier", "ECE"), rows)


def _numbers(measures: Evaluation) -> tuple[str, ...]:
    return (
        f"{measures.samples:,}",
        f"{measures.accuracy:.2%}",
        f"{measures.accuracy_low:.2%} to {measures.accuracy_high:.2%}",
        f"{measures.nll:.4f}",
        f"{measures.brier:.4f}",
        f"{measures.ece:.4f}",
    )


def _comparison(model: ReportedModel) -> str:
    champion = model.rival
    if champion is None:
        who = "no champion" if model.champion is None else "no other champion than this model"
        return f"<p>There was {who} when it was measured.</p>"
    mine, theirs = champion.disagreements.challenger_only_right, champion.disagreements.champion_only_right
    rows = [
        ("this model", *_numbers(model.card.metrics[TEST])),
        (f"champion, version {champion.version}", *_numbers(champion.test)),
    ]
    table = _table(("on the test fold", "digits", "accuracy", "95 % interval", "NLL", "Brier", "ECE"), rows)
    return (
        f"{table}<p>This model alone is right on <b>{mine:,}</b> digits, the champion alone on "
        f"<b>{theirs:,}</b>. Were they equally good, a difference at least as large would come up with "
        f"probability <b>{mcnemar_exact(mine, theirs):.3g}</b> (McNemar, exact).</p>"
    )


def _classes(model: ReportedModel) -> str:
    test = model.card.metrics[TEST]
    rows = [
        (label, f"{sum(row):,}", f"{sum(row) - row[index]:,}", "none" if share is None else f"{share:.2%}")
        for index, (label, row, share) in enumerate(
            zip(model.card.labels, test.confusion, test.per_class_accuracy, strict=True)
        )
    ]
    return _table(("label", "digits", "wrong", "accuracy"), rows)


def _provenance(model: ReportedModel) -> dict[str, object]:
    card = model.card
    return {
        "bundle": model.digest,
        "training": card.training_digest,
        "data set": card.dataset_digest,
        "preprocessing": f"version {card.preprocessing_version}",
        "abstention": f"a score above {card.abstention.threshold:.4g} is not a digit",
        "kept": f"epoch {model.trained.best_epoch} of {model.trained.history[-1].epoch}",
        "made with": ", ".join(f"{name} {version}" for name, version in card.environment.items()),
    }


def _pairs(values: Mapping[str, object], style: str) -> str:
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape('none' if value is None else str(value))}</dd></div>"
        for name, value in values.items()
    )
    return f'<dl class="{style}">{rows}</dl>'


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _plot(plot: Plot) -> str:
    picture = base64.b64encode(plot.png).decode()
    return (
        f'<section class="card"><h2>{escape(plot.title)}</h2><p>{escape(plot.says)}</p>'
        f'<img alt="{escape(plot.says)}" src="data:image/png;base64,{picture}"></section>'
    )
