"""The report of a model: one page that needs nothing but itself."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mnist_ops.domain.gate import Disagreements
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.evaluation.calibration import fit_temperature
from mnist_ops.vision.evaluation.metrics import evaluate
from mnist_ops.vision.inference.bundle import read_bundle
from mnist_ops.vision.inference.classifier import softmax
from mnist_ops.vision.models.torch_backend import trained_logits
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.release.report import Champion, ReportedModel, write_report

PLOTS = ("confusion.png", "learning-curves.png", "reliability.png", "worst-examples.png")
HOSTILE = '<script>alert("&")</script>'


class Page(HTMLParser):
    """What a browser would make of a page: its tags with their attributes, and its words."""

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
    """The session's model, calibrated, with a champion that was no better."""
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
    """Its report."""
    return Page(write_report(tmp_path_factory.mktemp("report"), reported))


def test_the_report_is_a_page_and_its_plots(reported: ReportedModel, tmp_path: Path) -> None:
    """The plots also as files, for other pages."""
    written = write_report(tmp_path, reported)
    assert written == tmp_path / "report" / "index.html"
    assert tuple(sorted(path.name for path in written.parent.iterdir())) == (
        *PLOTS[:1],
        "index.html",
        *PLOTS[1:],
    )


def test_the_page_holds_its_pictures_and_loads_nothing(page: Page) -> None:
    """It can be mailed, or opened years later."""
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == len(PLOTS)
    for source in sources:
        assert source is not None
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}


def test_the_page_names_no_other_place(reported: ReportedModel, tmp_path: Path) -> None:
    """And forbids the browser to ask one."""
    content = write_report(tmp_path, reported).read_text()
    assert not re.search(r"https?:|url\(|@import|//[a-z]", content.split("base64,")[0])
    assert "default-src 'none'" in content


def test_every_picture_has_words_for_those_who_do_not_see_it(page: Page) -> None:
    """What there is to see in it."""
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")


def test_the_numbers_stand_on_the_page(reported: ReportedModel, page: Page) -> None:
    """At the top."""
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
    """Rather than nothing."""
    page = Page(write_report(tmp_path, replace(reported, champion=None)))
    assert "There was no champion" in page.words


def test_a_model_that_was_the_champion_is_not_compared_with_itself(
    reported: ReportedModel, tmp_path: Path
) -> None:
    """A tie with itself would tell nothing."""
    assert reported.champion is not None
    itself = replace(reported.champion, digest=reported.digest)
    page = Page(write_report(tmp_path, replace(reported, champion=itself)))
    assert "no other champion than this model" in page.words
    assert "McNemar" not in page.words


def test_hyperparameters_and_provenance_stand_on_the_page(reported: ReportedModel, page: Page) -> None:
    """All that it takes to repeat the model."""
    card = reported.card
    for words in (reported.digest, card.training_digest, card.dataset_digest, card.environment["torch"]):
        assert words in page.words
    for name, value in card.hyperparameters.items():
        assert name in page.words
        assert ("none" if value is None else str(value)) in page.words


def test_a_label_is_text_whatever_it_holds(reported: ReportedModel, tmp_path: Path) -> None:
    """Labels and titles come from people."""
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
    """To the last byte."""
    first, second = (write_report(tmp_path / name, reported).read_bytes() for name in "ab")
    assert first == second
