"""The pages as people use them: Chromium, on a real Airflow, signed in through Airflow's own form.

Each run has a day of its own, weeks ago, so that it takes no record of another test.
"""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
import requests
from PIL import Image
from playwright.sync_api import Browser, expect

from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.selection import Selection
from mnist_ops.local import sample_digits
from mnist_ops.pipeline import Pipeline
from mnist_ops.steps.artifacts.datasets import open_rows, read_dataset
from tests.e2e.browser import Visitor, launched, needed_executable
from tests.e2e.deployment import CLASSIFY, Deployment, Run
from tests.e2e.second_model import promote_another
from tests.e2e.website import Website
from tests.support.pipeline_in_memory import build_small_dataset

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

# Days before today, one for each run.
UNSURE, HELD = 60, 61
UNCERTAIN, GOOD, MISSING = 8, 45, 15  # records: two digits over each other; with an image; without one
ANSWERS = ("3", "Enter", "5")  # keys
PAGES = (
    "/",
    "/runs",
    "/review",
    "/review/audit",
    "/models",
    "/model?version=1",
    "/backfills",
    "/sketchpad",
    "/api",
    "/no-such-page",
)
SEVEN = ((0.25, 0.22), (0.72, 0.22), (0.45, 0.82))  # corners of the stroke, as shares of the drawing area


# The browser, and what it looks at


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for these tests. While it is open, no other test could start an event loop."""
    with launched(needed_executable()) as browser:
        yield browser


@pytest.fixture(scope="module")
def admin(browser: Browser, running) -> Visitor:
    """Somebody who is signed in and may do everything."""
    visitor = Visitor(browser.new_page(), running.airflow_url)
    visitor.sign_in(running.airflow_user, running.airflow_password)
    return visitor


@dataclass(frozen=True)
class Course:
    """Two runs that have finished.

    Attributes:
        unsure: all its predictions are uncertain.
        held: over its failure budget.
    """

    unsure: Run
    held: Run


@pytest.fixture(scope="module")
def course(deployment: Deployment, website: Website, champion: str) -> Course:
    """Two runs by hand, side by side; and a second model, where the tests before left one only."""
    assert champion
    deployment.adapters.records.insert(
        *uncertain_records(website), *website.of_day(HELD, GOOD), *records_without_image(website)
    )
    ids = {
        name: deployment.trigger(window(website, day)) for name, day in (("unsure", UNSURE), ("held", HELD))
    }
    models = deployment.adapters.models
    if len(models.models("lenet5")) == 1:
        promote_another(deployment.adapters, seed=2)
        models.rollback("lenet5", Promotion(datetime.now(UTC), "the tests", "the first one goes on"))
    return Course(**deployment.all_finished(ids))


def window(website: Website, day: int) -> dict[str, object]:
    """The form of a run by hand over one day."""
    since, until = website.window(day)
    return {"since": since.isoformat(), "until": until.isoformat()}


def uncertain_records(website: Website) -> list[dict[str, Any]]:
    """Records whose image holds two digits, one over the other."""
    digits, _ = sample_digits.load("test")
    folder = website.folder / "unsure"
    folder.mkdir()
    for number in range(UNCERTAIN):
        (folder / f"{number}.png").write_bytes(png(np.maximum(digits[number], digits[number + 20])))
    created_at = website.window(UNSURE)[0]
    return [
        {
            "_id": f"unsure-{number}",
            "image_url": f"{website.url}/unsure/{number}.png",
            "created_at": created_at,
        }
        for number in range(UNCERTAIN)
    ]


def png(digit: Any) -> bytes:
    """An image file, uint8 (28, 28)."""
    file = io.BytesIO()
    Image.fromarray(digit).save(file, "PNG")
    return file.getvalue()


def records_without_image(website: Website) -> list[dict[str, Any]]:
    """Records whose URL leads nowhere."""
    created_at = website.window(HELD)[0]
    url = f"{website.url}/never"
    return [
        {"_id": f"never-{number}", "image_url": f"{url}/{number}.png", "created_at": created_at}
        for number in range(MISSING)
    ]


# What people do


@pytest.fixture(scope="module")
def corrected(admin: Visitor, course: Course, deployment: Deployment) -> Mapping[str, str]:
    """The records that were answered with three keys, in their order, and their labels afterwards."""
    assert course.unsure.state == "success"
    admin.open('/review?record="unsure-0"')
    ids = []
    for key in ANSWERS:
        item = admin.page.locator(".review-item")
        ids.append(str(json.loads(item.get_attribute("data-record") or "")))
        admin.page.keyboard.press(key)
        expect(item).not_to_have_attribute("data-record", json.dumps(ids[-1]))
    expect(admin.page.locator("#review-answered")).to_have_text(str(len(ANSWERS)))
    documents = deployment.documents()
    return {name: documents[name]["label"] for name in ids}


def test_three_labels_are_corrected_by_keyboard_and_are_in_mongodb(corrected, deployment) -> None:
    """With who wrote them; Enter confirms what was predicted."""
    documents = deployment.documents()
    first, second, third = corrected
    predicted = documents[second]["prediction"]["label"]
    assert list(corrected.values()) == ["three", predicted, "five"]
    assert [documents[name]["label_review"]["by"] for name in (first, second, third)] == ["admin"] * 3


def test_corrected_labels_enter_the_next_data_set(corrected, deployment, website) -> None:
    """It is built by the steps themselves."""
    allowed = {"allowed_hosts": frozenset({urlsplit(website.url).netloc})}
    settings = deployment.adapters.settings.model_copy(update=allowed)
    steps = Pipeline(replace(deployment.adapters, settings=settings))
    manifest = steps.snapshot(
        Generation("tests/corrected", 0), Selection(at=datetime.now(UTC), labelled=True)
    )
    reuse = deployment.adapters.datasets.newest_dataset()
    images = [steps.fetch(part, reuse_dataset=reuse) for part in steps.parts(manifest)]
    dataset = read_dataset(deployment.adapters.objects, build_small_dataset(steps, manifest, images))
    with open_rows(deployment.adapters.objects, dataset) as file:
        rows = file.read(["record_id", "label"]).to_pylist()
    indices = {row["record_id"]: row["label"] for row in rows}
    expected = {name: DIGITS.names.index(label) for name, label in corrected.items()}
    assert {name: indices.get(json.dumps(name)) for name in corrected} == expected


def test_a_drawn_seven_is_read_as_seven(admin, course) -> None:
    """With the mouse; the answer comes while people draw."""
    assert course.unsure.state == "success"
    admin.open("/sketchpad")
    area = admin.page.locator("canvas").bounding_box()
    assert area is not None
    corners = [(area["x"] + x * area["width"], area["y"] + y * area["height"]) for x, y in SEVEN]
    mouse = admin.page.mouse
    mouse.move(*corners[0])
    mouse.down()
    for corner in corners[1:]:
        mouse.move(*corner, steps=8)
    mouse.up()
    expect(admin.page.locator("#sketch-label")).to_have_text("seven")
    expect(admin.page.locator("#sketch-seen")).to_be_visible()


def test_a_model_is_promoted_and_rolled_back(admin, course, deployment) -> None:
    """Each with a reason, which is kept with the name of whoever did it."""
    assert course.unsure.state == "success"
    models = deployment.adapters.models
    before = models.champion("lenet5")
    other = next(one.bundle for one in models.models("lenet5") if one.bundle != before)
    admin.open(f"/model?version={other.version}")
    admin.page.fill("#promote-reason", "it is tried in a browser")
    if admin.page.locator("#anyway").count():
        admin.page.check("#anyway")
    admin.page.get_by_role("button", name=f"Make version {other.version} the champion").click()
    expect(admin.page.get_by_role("status")).to_contain_text(f"version {other.version} is the champion")
    assert models.champion("lenet5") == other
    admin.page.fill("#rollback-reason", "it was only tried")
    admin.page.get_by_role("button", name="Roll back to version").click()
    expect(admin.page.get_by_role("status")).to_contain_text(f"version {before.version} is the champion")
    assert models.champion("lenet5") == before
    newest = models.history("lenet5")[0]
    assert (newest.promotion.who, newest.promotion.why) == ("admin", "it was only tried")


@pytest.fixture(scope="module")
def released(admin: Visitor, course: Course, deployment: Deployment) -> Run:
    """The held run, once it was released on its page and has run on."""
    assert course.held.ledger["outcomes"]["held"] == GOOD
    admin.open(f"/run?dag_id={CLASSIFY}&run_id={quote(course.held.id)}")
    admin.page.fill("#reason", "the other images will never come")
    admin.page.get_by_role("button", name="Release and run on").click()
    expect(admin.page.locator("[data-clear-status]")).to_contain_text("The run goes on")
    return deployment.finished(course.held.id)


def test_a_held_run_is_released_by_one_click_and_publishes_its_predictions(released) -> None:
    """Airflow runs it on with the session of whoever clicked."""
    assert released.ledger["outcomes"]["predicted"] == GOOD
    assert released.ledger["outcomes"]["held"] == 0


# The ways to the pages


def test_every_page_is_reached_from_airflows_navigation(admin, course) -> None:
    """MNIST Ops is one item of it; its own navigation leads on."""
    assert course.unsure.state == "success"
    page = admin.page
    page.goto(admin.base)
    page.get_by_role("link", name="MNIST Ops").or_(page.get_by_role("button", name="MNIST Ops")).first.click()
    frame = page.frame_locator("iframe")
    for name in ("Runs", "Review", "Models", "Backfills", "Sketchpad", "API", "Overview"):
        frame.get_by_role("navigation", name="MNIST Ops").get_by_role("link", name=name, exact=True).click()
        expect(frame.get_by_role("heading", level=1)).to_be_visible()
        expect(frame.locator("a[aria-current=page]")).to_have_text(name)


def test_a_dag_run_leads_to_its_ledger_and_on_to_a_record(admin, course) -> None:
    """By the tab that the run has in Airflow."""
    page = admin.page
    page.goto(f"{admin.base}/dags/{CLASSIFY}/runs/{quote(course.unsure.id)}")
    page.locator("a[href$='/plugin/mnist-ops-run']").click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", level=1)).to_contain_text(course.unsure.id)
    expect(frame.locator(".flow > li").first).to_contain_text(f"{UNCERTAIN} selected")
    frame.get_by_role("link", name="unsure-7", exact=True).click()
    expect(frame.get_by_role("heading", level=1)).to_have_text("Record unsure-7")


# How the pages are


@pytest.fixture(scope="module")
def looked_at(admin: Visitor, course: Course, released: Run, corrected) -> Mapping[str, list[str]]:
    """What is wrong with each page: in light, in dark and on a narrow screen."""
    assert corrected
    wrong: dict[str, list[str]] = {}
    record = next(iter(corrected))
    runs = [f"/run?run={quote(run.key)}" for run in (course.unsure, released)]
    for path in (*PAGES, *runs, f'/record?id="{record}"'):
        admin.complaints.clear()
        admin.open(path)
        wrong[path] = admin.faults() + admin.too_wide() + admin.complaints
    return wrong


def test_no_page_has_a_fault_in_light_or_dark_or_on_a_narrow_screen(looked_at) -> None:
    """No serious barrier, no broken image, no failed request, no error of a script, nothing cut off."""
    missing = looked_at.pop("/no-such-page")
    assert [each for each in missing if not each.endswith("404") and "404" not in each] == []
    assert {path: found for path, found in looked_at.items() if found} == {}


# Who may


def test_a_viewer_sees_the_pages_and_may_write_nothing(running, layout) -> None:
    """Airflow knows vera as a viewer."""
    passwords = json.loads(layout.airflow_passwords_file.read_text())
    account = {"username": "vera", "password": passwords["vera"]}
    token = requests.post(f"{running.airflow_url}/auth/token", json=account, timeout=30).json()[
        "access_token"
    ]
    headers, pages = {"Authorization": f"Bearer {token}"}, f"{running.airflow_url}/mnist-ops"
    assert requests.get(f"{pages}/models", headers=headers, timeout=30).status_code == 200
    for path in ("/models/rollback", "/model/promote", "/run/release", "/review/answers"):
        answer = requests.post(f"{pages}{path}", headers=headers, data={"reason": "no"}, timeout=30)
        assert answer.status_code == 403, path
