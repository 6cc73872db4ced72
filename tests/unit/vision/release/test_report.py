"""The report of a model: one page that loads nothing."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder

from mnist_ops.domain.errors import Damaged
from mnist_ops.domain.gate import Disagreements
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.evaluation.calibration import fit_temperature
from mnist_ops.vision.evaluation.metrics import evaluate
from mnist_ops.vision.inference.bundle import read_bundle
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.torch_backend import trained_logits
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.release.report import TEMPLATE, Champion, ReportedModel, write_report
from mnist_ops.vision.release.report_data import WorstExample, parse_report_data

ROOT = Path(__file__).parents[4]
PLOTS = ("confusion.png", "learning-curves.png", "reliability.png", "worst-examples.png")
HOSTILE = '<script>alert("&")</script>'


class Page(HTMLParser):
    """A parsed page: its tags with their attributes, and its text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += f"{data} "


@pytest.fixture(scope="module")
def reported(
    trained: TrainedModel, validation: Examples, held_out: Examples, released: Path
) -> ReportedModel:
    """The session's model, calibrated, and a champion that is not better."""
    logits = trained_logits(trained, held_out.images)
    temperature = fit_temperature(trained_logits(trained, validation.images), validation.labels)
    before, after = (evaluate(softmax(logits, t), held_out.labels) for t in (1.0, temperature))
    card = read_bundle(released).card
    card = card.model_copy(update={"temperature": temperature, "metrics": {"test": after}})
    champion = Champion(
        6, "sha256:" + "e" * 64, before, Disagreements(challenger_only_right=9, champion_only_right=2)
    )
    digest = "sha256:" + "d" * 64
    return ReportedModel(
        "lenet5, version 7", digest, card, trained, {"test": before}, held_out, logits, champion
    )


@pytest.fixture(scope="module")
def page(reported: ReportedModel, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of that model, parsed."""
    return Page(write_report(tmp_path_factory.mktemp("report"), reported))


def test_the_report_is_a_page_its_plots_and_their_data(reported: ReportedModel, tmp_path: Path) -> None:
    """The plots are also files, for other pages."""
    written = write_report(tmp_path, reported)
    assert written == tmp_path / "report" / "index.html"
    assert {path.name for path in written.parent.iterdir()} == {*PLOTS, "index.html", "report.json"}


def test_the_data_of_the_plots_can_be_read_back(reported: ReportedModel, tmp_path: Path) -> None:
    """Curves, reliability, and the worst examples with their images."""
    content = (write_report(tmp_path, reported).parent / "report.json").read_bytes()
    data = parse_report_data(content, "report.json")
    test = reported.card.metrics["test"]
    assert (data.history, data.best_step) == (reported.trained.history, reported.trained.best_step)
    assert data.after.error == pytest.approx(test.ece)
    assert sum(data.before.counts) == test.samples
    worst, examples = data.worst[0], reported.examples
    (found,) = np.flatnonzero((examples.images == worst.pixels).all(axis=(1, 2)))
    assert (worst.label, worst.predicted) == (examples.labels[found], reported.logits[found].argmax())
    assert worst.probability == min(each.probability for each in data.worst)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"worst": 1}'])
def test_what_is_no_data_of_a_report_is_refused(content: bytes) -> None:
    """The error names the object."""
    with pytest.raises(Damaged, match=r"s3://bucket/report\.json: not the data of a report"):
        parse_report_data(content, "s3://bucket/report.json")


def test_a_worst_example_that_is_no_image_is_refused() -> None:
    """Its bytes are those of a file in a bucket."""
    for image in ("no base64", "AAAA"):
        with pytest.raises(Damaged, match="no image of 28 x 28 bytes"):
            _ = WorstExample(1, 7, 0.1, image).pixels


def test_the_page_holds_its_pictures_and_loads_nothing(page: Page) -> None:
    """It can be sent by mail, and opened without a network."""
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == len(PLOTS)
    for source in sources:
        assert source is not None
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}


def test_the_page_refers_to_no_other_address(reported: ReportedModel, tmp_path: Path) -> None:
    """And its policy forbids the browser to load one."""
    content = write_report(tmp_path, reported).read_text()
    assert not re.search(r"https?:|url\(|@import|//[a-z]", content.split("base64,")[0])
    assert "default-src 'none'" in content


def test_every_picture_has_an_alternative_text(page: Page) -> None:
    """For screen readers."""
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")


def test_the_page_shows_the_measures(reported: ReportedModel, page: Page) -> None:
    """In its tiles."""
    test, before = reported.card.metrics["test"], reported.uncalibrated["test"]
    for number in (
        f"{test.accuracy:.2%}",
        f"{test.accuracy_low:.2%} to {test.accuracy_high:.2%}",
        f"{test.nll:.4f}",
        f"{test.brier:.4f}",
        f"{test.ece:.4f}",
        f"{before.ece:.4f} before",
        f"{reported.card.temperature:.3g}",
    ):
        assert number in page.words, number


def test_the_champion_is_compared_by_the_disagreements(page: Page) -> None:
    """9 against 2: an exact p of 0.0654."""
    words = " ".join(page.words.split())
    assert "alone is right on 9 digits, the champion alone on 2" in words
    assert "0.0654" in words


def test_without_a_champion_the_page_says_so(reported: ReportedModel, tmp_path: Path) -> None:
    """The section is there in any case."""
    page = Page(write_report(tmp_path, replace(reported, champion=None)))
    assert "There was no champion" in page.words


def test_a_model_that_was_the_champion_is_not_compared_with_itself(
    reported: ReportedModel, tmp_path: Path
) -> None:
    """The comparison would always be a tie."""
    assert reported.champion is not None
    itself = replace(reported.champion, digest=reported.digest)
    page = Page(write_report(tmp_path, replace(reported, champion=itself)))
    assert "no other champion than this model" in page.words
    assert "McNemar" not in page.words


def test_the_page_shows_hyperparameters_and_provenance(reported: ReportedModel, page: Page) -> None:
    """Everything that is needed to train the model again."""
    card = reported.card
    for words in (reported.digest, card.training_digest, card.dataset_digest, card.environment["torch"]):
        assert words in page.words
    for name, value in card.hyperparameters.items():
        assert name in page.words
        assert ("none" if value is None else str(value)) in page.words


def test_markup_in_a_label_is_escaped(reported: ReportedModel, tmp_path: Path) -> None:
    """Labels and titles are text from outside."""
    card = reported.card.model_copy(update={"labels": (HOSTILE, *reported.card.labels[1:])})
    page = Page(write_report(tmp_path, replace(reported, card=card, title=HOSTILE)))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.words.count(HOSTILE) == 3  # the title, the heading and the table


def test_the_digest_does_not_cover_the_report(bundle: Path, reported: ReportedModel) -> None:
    """A bundle with a report is the bundle without it."""
    card = read_bundle(bundle).card
    write_report(bundle, reported)
    assert read_bundle(bundle).card == card


def test_the_same_model_gives_the_same_report(reported: ReportedModel, tmp_path: Path) -> None:
    """Byte for byte."""
    first, second = (write_report(tmp_path / name, reported).read_bytes() for name in "ab")
    assert first == second


def test_the_template_is_in_the_wheel() -> None:
    """An installed package can write reports too."""
    built = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert f"mnist_ops/vision/release/templates/{TEMPLATE}" in built
