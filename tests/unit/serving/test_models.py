"""The pages of models: what they show, who may promote and roll back, and what is asked before."""

import re
from collections.abc import Mapping
from dataclasses import replace
from html import unescape

import pytest
from starlette.testclient import TestClient

from mnist_ops.domain.champions import Action, Promotion
from mnist_ops.domain.gate import Decision
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.records import BundleRef
from mnist_ops.serving.access import Role
from mnist_ops.serving.pages import models
from mnist_ops.vision.release import plots
from tests.support.pipeline_in_memory import AT, MODEL, PROMOTION, Pipeline

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def two(pipeline: Pipeline) -> Pipeline:
    """A pipeline with version 1, the champion, and version 2, which the gate refused."""
    release(pipeline, "refused, no better than the champion: p = 1", promote=False)
    return pipeline


def release(pipeline: Pipeline, why: str, *, promote: bool) -> BundleRef:
    """Register another version, compared with the champion; its bundle has no file."""
    training = f"memory://objects/{why}"
    version = pipeline.models.reserve(MODEL, training)
    bundle = BundleRef(MODEL, version, f"memory://objects/models/{version}", f"sha256:{version}")
    decision = Decision(promote, why, 1.0, pipeline.models.champion(MODEL))
    pipeline.models.register(RegisteredModel(bundle, training, {"test_accuracy": 0.5}, AT, decision))
    return bundle


def seen(client: TestClient, path: str = "/models") -> str:
    """The champion that a page shows, as its forms send it back."""
    found = re.search(r'name="seen" value="([^"]*)"', client.get(path).text)
    assert found is not None
    return unescape(found[1])


def champion(pipeline: Pipeline) -> int | None:
    """The version in production."""
    bundle = pipeline.models.champion(MODEL)
    return bundle.version if bundle else None


def send(client: TestClient, path: str, **form: object) -> tuple[int, Mapping[str, str]]:
    """Send a form; the status and the problem or the address that follows."""
    answer = client.post(path, data=form, headers={"Sec-Fetch-Site": "same-origin"}, follow_redirects=False)
    return answer.status_code, answer.json() if answer.status_code >= 400 else answer.headers


# --- what is shown


def test_the_list_shows_the_champion_and_what_the_gate_said(client, two: Pipeline) -> None:
    """With the interval of its accuracy, and the reason of its promotion."""
    text = client().get("/models").text
    (model, _) = two.models.models(MODEL)
    assert '<span class="badge good">champion</span>' in text
    assert f"{100 * model.metrics['test_accuracy_low']:.2f} %" in text
    assert "<strong>Refused:</strong> refused, no better than the champion: p = 1" in text
    assert '<td class="long">the tests</td>' in text
    assert text.index('href="/model?version=2"') < text.index(
        'scope="row" class="number"><a href="/model?version=1"'
    )


def test_a_list_without_versions_says_how_to_release_one(client) -> None:
    """Nobody has trained yet."""
    text = client(steps=Pipeline(load=lambda *_: None).steps()).get("/models").text
    assert "train_lenet" in text


def test_a_list_is_a_page_of_a_hundred(client, pipeline: Pipeline) -> None:
    """The next page begins where it ends."""
    for number in range(120):
        release(pipeline, f"training {number}", promote=False)
    first = client().get("/models").text
    assert (first.count('<th scope="row"'), 'href="/models?before=22"' in first) == (100, True)
    second = client().get("/models", params={"before": 22}).text
    assert (second.count('<th scope="row"'), "Older versions" in second) == (21, False)


def test_a_version_shows_measures_curves_confusion_and_worst_examples(client) -> None:
    """All drawn by the server, from the bundle's card and the report's data."""
    text = client().get("/model", params={"version": 1}).text
    assert text.count('role="img"') == 3
    for heading in ("Measured", "Loss", "Validation accuracy", "Reliability", "Confusion", "Worst examples"):
        assert f"<h2>{heading}</h2>" in text
    assert text.count('<img class="picture" src="data:image/png;base64,') == plots.WORST
    assert {"train", "validation", "test"} & set(re.findall(r'<th scope="row">(\w+)</th>', text))
    assert 'href="/reports/1"' in text


def test_an_older_bundle_shows_the_pictures_of_its_report_encoded_again(client, pipeline: Pipeline) -> None:
    """Bundles of former releases have no data for charts."""
    objects = pipeline.objects.objects
    (key,) = [key for key in objects if key.endswith("report/report.json")]
    del objects[key]
    text = client().get("/model", params={"version": 1}).text
    assert 'role="img"' not in text
    assert text.count('<img src="data:image/png;base64,') == 3
    stored = objects[key.replace("report.json", "reliability.png")]
    assert stored[:60] not in text.encode()


@pytest.mark.parametrize("damage", ["report/report.json", "card.json"])
def test_a_damaged_bundle_is_shown_as_far_as_it_can_be(client, pipeline: Pipeline, damage: str) -> None:
    """The page names what is wrong."""
    objects = pipeline.objects.objects
    (key,) = [key for key in objects if key.endswith(damage)]
    objects[key] = b"{}"
    answer = client().get("/model", params={"version": 1})
    assert answer.status_code == 200
    assert "not everything can be shown" in answer.text
    assert damage in answer.text


@pytest.mark.usefixtures("two")
def test_a_version_without_a_bundle_is_still_shown(client) -> None:
    """The registry knows what the gate said."""
    text = client().get("/model", params={"version": 2}).text
    assert "no better than the champion" in text
    assert "not everything can be shown" in text


def test_an_unknown_version_is_not_found(client) -> None:
    """The answer says where the others are."""
    answer = client().get("/model", params={"version": 9})
    assert (answer.status_code, "lenet5 has no version 9" in answer.text) == (404, True)


def test_text_from_outside_is_shown_as_text(client, two: Pipeline) -> None:
    """A reason may hold anything."""
    first = two.models.champion(MODEL)
    (second,) = [each.bundle for each in two.models.models(MODEL) if each.bundle.version == 2]
    two.models.promote(second, first, Promotion(AT, HOSTILE, HOSTILE))
    for path in ("/models", "/model?version=2"):
        text = client().get(path).text
        assert HOSTILE not in text
        assert "&lt;script&gt;" in text


def test_the_reports_alone_lead_to_the_models(client) -> None:
    """Somebody shortened the address of a report."""
    answer = client().get("/reports/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/models")


# --- promotion


def test_an_admin_promotes_with_a_reason(client, pipeline: Pipeline) -> None:
    """The history has the name and the reason; the list says what was done."""
    release(pipeline, "better than the champion", promote=True)
    admin = client(Role.ADMIN)
    form = {"version": 2, "seen": seen(admin, "/model?version=2"), "reason": " it  reads sevens "}
    status, headers = send(admin, "/model/promote", **form)
    assert (status, headers["location"], champion(pipeline)) == (303, "/models?changed=1", 2)
    newest = pipeline.models.history(MODEL)[0]
    assert (newest.promotion.who, newest.promotion.why) == ("vera", "it reads sevens")
    assert "Done: version 2 is the champion" in admin.get(headers["location"]).text


@pytest.mark.parametrize("role", [Role.VIEWER, Role.REVIEWER])
@pytest.mark.parametrize("path", ["/model/promote", "/models/rollback"])
def test_only_an_admin_may_change_the_champion(client, two: Pipeline, role: Role, path: str) -> None:
    """The others do not even see the forms."""
    someone = client(role)
    form = {"version": 2, "seen": seen(client(Role.ADMIN), "/model?version=2"), "reason": "why not"}
    status, problem = send(someone, path, **form, anyway="true")
    assert (status, "role admin" in problem["detail"], champion(two)) == (403, True, 1)
    assert 'method="post"' not in someone.get("/models").text + someone.get("/model?version=2").text


def test_nobody_promotes_without_a_reason(client, pipeline: Pipeline) -> None:
    """Spaces are none."""
    release(pipeline, "better", promote=True)
    admin = client(Role.ADMIN)
    form = {"version": 2, "seen": seen(admin, "/model?version=2"), "reason": "   "}
    status, problem = send(admin, "/model/promote", **form)
    assert (status, problem["title"], champion(pipeline)) == (422, "A reason is needed", 1)


def test_a_refused_version_needs_the_explicit_tick(client, two: Pipeline) -> None:
    """Without it the answer has the gate's words; with it the version is promoted."""
    admin = client(Role.ADMIN)
    form = {"version": 2, "seen": seen(admin, "/model?version=2"), "reason": "an experiment"}
    status, problem = send(admin, "/model/promote", **form)
    assert (status, champion(two)) == (409, 1)
    assert "no better than the champion: p = 1. To promote version 2 in spite of that" in problem["detail"]
    assert 'name="anyway"' in admin.get("/model?version=2").text
    assert send(admin, "/model/promote", **form, anyway="true")[0] == 303
    assert champion(two) == 2


def test_nobody_replaces_a_champion_that_they_have_not_seen(client, two: Pipeline) -> None:
    """Somebody else was quicker; the answer says who, and why."""
    admin = client(Role.ADMIN)
    form = {"version": 2, "seen": seen(admin, "/model?version=2"), "reason": "mine", "anyway": "true"}
    third = release(two, "better", promote=True)
    two.models.promote(third, two.models.champion(MODEL), replace(PROMOTION, who="grace", why="quicker"))
    status, problem = send(admin, "/model/promote", **form)
    assert (status, problem["title"], champion(two)) == (409, "The champion has changed meanwhile", 3)
    assert "version 3 by now, by grace at 2026-01-31 12:00 UTC: quicker" in problem["detail"]


@pytest.mark.parametrize("path", ["/model/promote", "/models/rollback"])
def test_nobody_replaces_a_champion_that_came_while_their_form_was_checked(
    client, two: Pipeline, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The change itself expects the champion that they have seen."""
    third = release(two, "better", promote=True)
    check = models._require_seen

    def check_and_be_overtaken(*given: object) -> BundleRef | None:
        champion = check(*given)
        two.models.promote(third, champion, replace(PROMOTION, who="grace", why="quicker"))
        return champion

    monkeypatch.setattr(models, "_require_seen", check_and_be_overtaken)
    admin = client(Role.ADMIN)
    form = {"version": 2, "seen": seen(admin, "/model?version=2"), "reason": "mine", "anyway": "true"}
    status, problem = send(admin, path, **form)
    assert (status, champion(two)) == (503, 3)
    assert "changed at the same moment" in problem["detail"]


@pytest.mark.usefixtures("two")
def test_an_unknown_version_cannot_be_promoted(client) -> None:
    """The form was changed by hand."""
    admin = client(Role.ADMIN)
    form = {"version": 9, "seen": seen(admin, "/model?version=2"), "reason": "why not"}
    assert send(admin, "/model/promote", **form)[0] == 404


# --- rollback


def test_an_admin_rolls_back_with_a_reason(client, two: Pipeline) -> None:
    """The champion before is restored, once; there is none before that."""
    (second,) = [each.bundle for each in two.models.models(MODEL) if each.bundle.version == 2]
    two.models.promote(second, two.models.champion(MODEL), PROMOTION)
    admin = client(Role.ADMIN)
    form = {"seen": seen(admin), "reason": "it reads sevens as ones"}
    assert "Roll back to version 1" in admin.get("/models").text
    assert send(admin, "/models/rollback", **form)[0] == 303
    newest = two.models.history(MODEL)[0]
    assert (champion(two), newest.action) == (1, Action.ROLLBACK)
    assert (newest.promotion.who, newest.promotion.why) == ("vera", "it reads sevens as ones")
    assert "Roll back to" not in admin.get("/models").text


def test_a_rollback_that_is_sent_twice_goes_one_champion_back_only(client, two: Pipeline) -> None:
    """The second one names a champion that is no longer there."""
    (second,) = [each.bundle for each in two.models.models(MODEL) if each.bundle.version == 2]
    two.models.promote(second, two.models.champion(MODEL), PROMOTION)
    admin = client(Role.ADMIN)
    form = {"seen": seen(admin), "reason": "twice"}
    assert [send(admin, "/models/rollback", **form)[0] for _ in range(2)] == [303, 409]
    assert champion(two) == 1


def test_without_a_former_champion_nothing_is_rolled_back(client, two: Pipeline) -> None:
    """The form is not there; a request by hand is answered in words."""
    admin = client(Role.ADMIN)
    status, problem = send(admin, "/models/rollback", seen=seen(admin, "/model?version=2"), reason="back")
    assert (status, champion(two)) == (409, 1)
    assert "no former champion" in problem["detail"]


def test_a_promotion_of_another_site_is_refused(client, two: Pipeline) -> None:
    """Even if the browser sends the admin's cookie."""
    admin = client(Role.ADMIN)
    form = {"version": 2, "seen": seen(admin, "/model?version=2"), "reason": "x", "anyway": "true"}
    answer = admin.post("/model/promote", data=form, headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, champion(two)) == (403, 1)
