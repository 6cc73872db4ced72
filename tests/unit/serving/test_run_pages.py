"""The overview, the list of runs, and a run's page: its records, and the release of a held run."""

import base64
import dataclasses
import html
import re
from datetime import timedelta
from typing import NoReturn

import pytest

from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.adapters.memory.registries import InMemoryModels
from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.errors import Transient
from mnist_ops.domain.gate import Decision
from mnist_ops.domain.keys import Generation, run_key
from mnist_ops.domain.outcomes import Ledger
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.record_index import BoundedCount
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.run_summary import RunFailed
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.access import Role
from mnist_ops.serving.queries import gallery
from tests.support.doubles import Doubles
from tests.support.small_runs import AT, MODEL, SmallRuns

RUN_ID = "scheduled__2026-01-31T00:00:00+00:00"
RUN = Generation(run_key("classify_records", RUN_ID))
OF_CLI = Generation("cli/20260131T120000Z-1")
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def runs() -> SmallRuns:
    """Ten records: 3 has no image, 5 no URL, 9 an image that is none; the others show digits."""
    runs = SmallRuns(InMemoryObjects(), InMemoryRecords())
    runs.records.insert(*(runs.document(number) for number in range(10)))
    runs.images.images.pop("https://images.example/3.png")
    runs.images.images["https://images.example/9.png"] = b"<html>not here</html>"
    runs.records.insert({**runs.document(5), "image_url": 5})
    return runs


def held(runs: SmallRuns, generation: Generation = RUN) -> str:
    """Run with a failure budget that three failures of ten records exceed; returns the manifest."""
    steps = runs.steps(records_per_part=4, failure_budget_from=2)
    manifest = runs.snapshot(generation)
    again(steps, manifest)
    return manifest


def again(steps: Pipeline, manifest: str) -> Ledger | None:
    """Assess and what follows, as a run does after it was released; None if it is red."""
    predictions = [steps.classify(steps.fetch(part)) for part in steps.parts(manifest)]
    assessment = steps.assess(manifest, predictions)
    try:
        return steps.reconcile(manifest, [steps.publish(shard, assessment) for shard in predictions])
    except RunFailed:
        return None


def text_of(answer) -> str:
    """What a page says, without its markup."""
    assert answer.status_code == 200, answer.text
    content = re.sub(r"<(script|style)\b.*?</\1>", "", answer.text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", content)).split())


# The overview


def test_an_empty_deployment_says_what_to_do_first(client) -> None:
    """There is neither a champion nor a run."""
    said = text_of(client(Role.VIEWER, Pipeline(Doubles())).get("/"))
    assert "No champion. Records cannot be classified until" in said
    assert "mnist-ops runs train" in said
    assert "No run is finished yet. Trigger the DAG classify_records" in said


def test_the_overview_counts_records_and_names_the_newest_run(client, runs) -> None:
    """What waits, what the newest runs labelled, and what failed for good."""
    runs.run(RUN)
    runs.records.insert(runs.document(20))
    said = text_of(client(Role.VIEWER, runs.steps()).get("/"))
    assert "Champion lenet5 1" in said
    assert "Waiting 1 the oldest since 2026-01-30 00:00:00 UTC" in said
    assert "Labelled lately 7 by the newest 1 run" in said
    assert "Failed for good 3 no run tries them again" in said
    assert f"classify_records/{RUN_ID}" in said
    assert "Nothing: no run is held, no model waits" in said


@pytest.mark.parametrize(
    ("waiting", "says"),
    [
        (BoundedCount(0), "Waiting 0 no record waits"),
        (BoundedCount(0, more=True), "Waiting 0 no new record; more failed ones wait"),
        (BoundedCount(2), "Waiting 2 none of them is new"),
    ],
)
def test_the_overview_says_what_it_means_that_no_new_record_waits(
    client, runs, monkeypatch, waiting: BoundedCount, says: str
) -> None:
    """Nothing waits, or failed records may."""
    steps = runs.steps()
    index = type(steps.adapters.record_index)
    monkeypatch.setattr(index, "waiting", lambda *_: waiting)
    monkeypatch.setattr(index, "oldest_waiting", lambda *_: None)
    assert says in text_of(client(Role.VIEWER, steps).get("/"))


def test_a_held_run_is_what_needs_a_person_until_it_is_published(client, runs) -> None:
    """Also between its release and its second assessment, with the name of who released it."""
    manifest = held(runs)
    pages, steps = client(Role.VIEWER, runs.steps()), runs.steps(failure_budget_from=2)
    assert "Held run: classify_records/" in text_of(pages.get("/"))
    assert "3 of 10 records failed" in text_of(pages.get("/"))
    steps.release_hold(RUN, "ada", "the server is being repaired")
    assert "Released by ada, and not run on yet." in text_of(pages.get("/"))
    again(steps, manifest)
    said = text_of(run_page(client, runs))
    assert re.search(r"Released by ada from being held, at .* UTC : the server is being repaired", said)
    assert "Held run" not in text_of(pages.get("/"))


def test_a_held_run_with_a_newer_generation_needs_nobody(client, runs) -> None:
    """The newer one has its own selection of records."""
    held(runs)
    runs.snapshot(Generation(RUN.run, 1))
    assert "Held run" not in text_of(client(Role.VIEWER, runs.steps()).get("/"))


def test_a_held_run_is_not_forgotten_after_newer_runs(client, runs) -> None:
    """However many have finished since; the table shows the newest ten."""
    held(runs)
    other = runs.run(OF_CLI)
    for number in range(120):
        generation = Generation(run_key("classify_records", f"run-{number}"))
        finished_at = other.finished_at + timedelta(minutes=number)
        runs.runs.put_ledger(dataclasses.replace(other, generation=generation, finished_at=finished_at))
    answer = client(Role.VIEWER, runs.steps()).get("/")
    assert "Held run: classify_records/" in text_of(answer)
    assert answer.text.count('<th scope="row">') == 10


@pytest.mark.parametrize(
    ("version", "promote", "waits"), [(2, True, True), (2, False, False), (1, True, False)]
)
def test_a_newer_model_that_passed_the_gate_waits_for_promotion(
    client, runs, version: int, promote: bool, waits: bool
) -> None:
    """Not one that the gate refused, and not one as old as the champion."""
    assert isinstance(runs.models, InMemoryModels)
    for training in range(1, version + 1):
        runs.models.reserve(MODEL, f"s3://trainings/{training}")
    bundle = BundleRef(MODEL, version, "s3://models/2", "sha256:2")
    decision = Decision(promote, "better than the champion", 0.01, runs.models.champion(MODEL))
    training = f"s3://trainings/{version}"
    runs.models.register(RegisteredModel(bundle, training, {"test_accuracy": 0.99}, AT, decision))
    said = text_of(client(Role.VIEWER, runs.steps()).get("/"))
    assert ("A model waits for promotion: lenet5 2 better than the champion" in said) is waits


def test_a_model_that_was_rolled_back_does_not_wait_for_promotion(client, runs) -> None:
    """A person has decided about it already."""
    assert isinstance(runs.models, InMemoryModels)
    first = runs.models.champion(MODEL)
    for training in ("s3://trainings/1", "s3://trainings/2"):
        runs.models.reserve(MODEL, training)
    bundle = BundleRef(MODEL, 2, "s3://models/2", "sha256:2")
    decision = Decision(promote=True, why="better", p_value=0.01, compared_with=first)
    runs.models.register(RegisteredModel(bundle, "s3://trainings/2", {}, AT, decision))
    pages = client(Role.VIEWER, runs.steps())
    assert "A model waits for promotion: lenet5 2" in text_of(pages.get("/"))
    runs.models.promote(bundle, first, Promotion(AT, "ada", "it is better"))
    runs.models.rollback(MODEL, Promotion(AT, "ada", "it reads sevens as ones"))
    assert "A model waits" not in text_of(pages.get("/"))


# The list of runs


def test_the_runs_of_a_dag_are_listed_page_by_page(client, runs) -> None:
    """Fifty on a page, newest first; other DAGs' runs are on no page of the filter."""
    ledger = runs.run(OF_CLI)
    for number in range(60):
        generation = Generation(run_key("classify_records", f"run-{number}"))
        finished_at = AT + timedelta(minutes=number)
        runs.runs.put_ledger(dataclasses.replace(ledger, generation=generation, finished_at=finished_at))
    pages = client(Role.VIEWER, runs.steps())
    first = pages.get("/runs", params={"dag_id": "classify_records"})
    (following,) = re.findall(r'href="([^"]*)">Earlier runs', first.text)
    second = pages.get(html.unescape(following))
    shown = [re.findall(r">classify_records/run-(\d+)<", answer.text) for answer in (first, second)]
    assert shown == [list(map(str, range(59, 9, -1))), list(map(str, range(9, -1, -1)))]
    assert "Earlier runs" not in second.text
    assert "cli/" not in second.text


def test_a_dag_without_runs_is_said_in_words(client, runs) -> None:
    """With a way back to all runs."""
    runs.run(RUN)
    said = text_of(client(Role.VIEWER, runs.steps()).get("/runs", params={"dag_id": "other"}))
    assert "No run of other is finished. Show all runs" in said


# A run


def run_page(client, runs: SmallRuns, role: Role = Role.VIEWER, *, airflow: bool = False, **query: object):
    """The page of the run, with a query."""
    address = {"dag_id": "classify_records", "run_id": RUN_ID, **query}
    return client(role, runs.steps(), airflow=airflow).get("/run", params=address)


def cards(answer) -> list[int]:
    """The records in the gallery, by number."""
    assert answer.status_code == 200, answer.text
    return [int(number) for number in re.findall(r"<h3><a [^>]*>(\d+)</a></h3>", answer.text)]


def test_a_run_accounts_for_every_record(client, runs) -> None:
    """The flow and its sum are those of the ledger."""
    runs.run(RUN)
    said = text_of(run_page(client, runs))
    assert (
        "10 selected = 7 predicted + 3 quarantined + 0 retry later + 0 held + 0 conflict + 0 gone. adds up"
        in said
    )
    for reason in ("not found 1", "invalid url 1", "not an image 1"):
        assert reason in said
    assert "Bottleneck:" in said


def test_a_run_that_does_not_add_up_says_so(client, runs) -> None:
    """With the numbers, and without the badge that says that it adds up."""
    ledger = runs.run(RUN)
    runs.runs.put_ledger(dataclasses.replace(ledger, selected=11))
    said = text_of(run_page(client, runs))
    assert "It does not add up: selected 11 records, but" in said
    assert "adds up" not in said


def test_the_gallery_shows_pictures_encoded_again(client, runs) -> None:
    """As fetched and as the network sees it; never the bytes that came from outside."""
    runs.run(RUN)
    answer = run_page(client, runs)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', answer.text)
    assert len(pictures) == 2 * 7
    fetched = {base64.b64encode(image).decode() for image in runs.images.images.values()}
    assert not fetched & set(pictures)
    assert "no image" in text_of(answer)
    assert cards(answer) == [*range(10)]


def test_the_gallery_is_filtered(client, runs) -> None:
    """By outcome, reason, label and confidence; what the form leaves empty is no condition."""
    runs.run(RUN)
    empty = {"outcome": "", "reason": "", "label": "", "at_least": "", "below": ""}
    for query, expected in (
        ({"outcome": "quarantined"}, [3, 5, 9]),
        ({"reason": "not_found"}, [3]),
        ({"label": "seven"}, [0, 1, 2, 4, 6, 7, 8]),
        ({"label": "one"}, []),
        ({"at_least": "99.5"}, [0, 1, 2, 4, 6, 7, 8]),
        ({"below": "50"}, []),
        ({"needs_review": "true"}, []),
        ({}, [*range(10)]),
    ):
        assert cards(run_page(client, runs, **empty | query)) == expected, query


def test_the_gallery_goes_on_where_the_page_ends(client, runs, monkeypatch) -> None:
    """Over the parts, and with the filter."""
    monkeypatch.setattr(gallery, "RECORDS_PER_PAGE", 3)
    runs.run(RUN)
    answer, shown = run_page(client, runs, outcome="predicted"), []
    while following := re.findall(r'href="([^"]*)">More records', answer.text):
        shown.append(cards(answer))
        answer = client(Role.VIEWER, runs.steps()).get(html.unescape(following[0]))
    assert [*shown, cards(answer)] == [[0, 1, 2], [4, 6, 7], [8]]


def test_wrong_filters_are_refused_in_words(client, runs) -> None:
    """The address may be typed by anybody."""
    runs.run(RUN)
    for query in ({"outcome": "lost"}, {"below": "200"}, {"start": "x"}, {"generation": "x"}):
        assert run_page(client, runs, **query).status_code in (400, 422), query


def test_large_images_are_left_to_the_records_own_pages(client, runs, monkeypatch) -> None:
    """A page of them would take long to decode."""
    monkeypatch.setattr(gallery, "_MOST_BYTES", 800)
    runs.run(RUN)
    answer = run_page(client, runs)
    assert "a large image: open the record" in text_of(answer)
    assert len(re.findall(r'src="data:image/png', answer.text)) < 14


def test_a_run_whose_shards_are_deleted_keeps_its_ledger_on_the_page(client, runs) -> None:
    """Garbage collection deletes them after a time."""
    runs.run(RUN)
    for key in [key for key in runs.objects.objects if key.startswith("outcomes/")]:
        runs.objects.delete([key])
    said = text_of(run_page(client, runs))
    assert "10 selected = 7 predicted" in said
    assert "The shards of this run are not stored any more" in said


@pytest.mark.parametrize("fault", ["outage", "damage"])
def test_a_run_whose_shards_cannot_be_read_keeps_its_ledger_on_the_page(client, runs, fault: str) -> None:
    """An outage of the store, or one damaged shard; the page says which."""
    runs.run(RUN)
    objects = runs.objects
    if fault == "damage":
        (key,) = [key for key in objects.objects if key.startswith("images/") and "part-00000" in key]
        objects.objects[key] = b"PAR1 not a shard"
    pages = client(Role.VIEWER, runs.steps())
    if fault == "outage":
        objects.get_bytes = objects.get_range = objects.keys = refused
    said = text_of(pages.get("/run", params={"run": RUN.run}))
    assert "10 selected = 7 predicted" in said
    assert "The records cannot be read at present:" in said
    assert "The image cannot be read:" in text_of(pages.get("/record", params={"id": "1"}))


def refused(*_: object, **__: object) -> NoReturn:
    """A store that does not answer."""
    raise Transient("the store does not answer")


def test_what_a_record_holds_is_shown_as_text(client, runs) -> None:
    """An id, a URL and a failure's detail come from outside."""
    for number in range(10):
        runs.records.delete(number)
    runs.records.insert({**runs.document(1), "_id": SCRIPT, "image_url": f'https://x.example/"{SCRIPT}'})
    runs.run(RUN)
    answer = run_page(client, runs)
    assert SCRIPT not in answer.text
    assert answer.text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 2


def test_a_run_without_a_snapshot_is_not_found(client, runs) -> None:
    """Nor a generation that it has not."""
    runs.run(RUN)
    pages = client(Role.VIEWER, runs.steps())
    for query in ({"run": "dag/other"}, {"run": "classify_records"}, {"run": RUN.run, "generation": 1}):
        answer = pages.get("/run", params=query)
        assert (answer.status_code, answer.json()["title"]) == (404, "This run has taken no snapshot")
    assert pages.get("/run").status_code == 400


def test_a_run_that_is_not_finished_says_so(client, runs) -> None:
    """It has a snapshot and no ledger."""
    runs.snapshot(RUN)
    assert "has no ledger yet: it is running" in text_of(run_page(client, runs))


def test_each_generation_of_a_run_has_its_page(client, runs) -> None:
    """The newest is shown by default; an older one says that there is a newer one."""
    runs.run(RUN)
    runs.run(Generation(RUN.run, 1), reclassify="all")
    assert "there is a newer one" not in text_of(run_page(client, runs))
    older = text_of(run_page(client, runs, generation=0))
    assert "Generation 0 there is a newer one" in older


def test_links_into_airflow_are_only_there_in_airflow(client, runs) -> None:
    """To the DAG run and to the task of each step, below the path that Airflow is mounted at."""
    runs.run(RUN)
    dag_run = "/dags/classify_records/runs/scheduled__2026-01-31T00%3A00%3A00%2B00%3A00"
    inside, alone = run_page(client, runs, airflow=True).text, run_page(client, runs).text
    for address in (dag_run, f"{dag_run}/tasks/part.fetch/mapped", f"{dag_run}/tasks/reconcile"):
        assert f'href="{address}"' in inside
    assert "/dags/" not in alone


# Releasing a held run


def release(client, runs: SmallRuns, role: Role, reason: str = "the server is being repaired"):
    """Send the form, without following the redirect."""
    form = {"run": RUN.run, "generation": "0", "reason": reason}
    return client(role, runs.steps()).post("/run/release", data=form, follow_redirects=False)


def test_an_administrator_releases_a_held_run_with_a_reason(client, runs) -> None:
    """The release has the user's name; the page then says what to do."""
    held(runs)
    answer = release(client, runs, Role.ADMIN)
    assert answer.status_code == 303
    assert runs.runs.hold_release(RUN).by == "vera"
    said = text_of(client(Role.ADMIN, runs.steps()).get(answer.headers["location"]))
    assert "Released. One more step, below" in said
    assert f"clear the task assess of the DAG run {RUN_ID} of classify_records" in said


@pytest.mark.parametrize("role", [Role.VIEWER, Role.REVIEWER])
def test_nobody_else_releases_a_held_run(client, runs, role: Role) -> None:
    """Nor is the form shown."""
    held(runs)
    assert release(client, runs, role).status_code == 403
    assert runs.runs.hold_release(RUN) is None
    assert "/run/release" not in run_page(client, runs, role).text


def test_a_release_needs_a_reason(client, runs) -> None:
    """Spaces are none."""
    held(runs)
    assert release(client, runs, Role.ADMIN, "  ").status_code == 422
    assert runs.runs.hold_release(RUN) is None


def test_a_run_within_its_budget_cannot_be_released(client, runs) -> None:
    """There is nothing to release."""
    runs.run(RUN)
    answer = release(client, runs, Role.ADMIN)
    assert answer.status_code == 400
    assert "nothing to release" in answer.json()["detail"]


def test_a_held_run_of_the_command_line_is_resumed_there(client, runs) -> None:
    """The whole command is on the page once the run is released."""
    manifest = held(runs, OF_CLI)
    runs.steps().release_hold(OF_CLI, "ada", "it is fine")
    said = text_of(client(Role.VIEWER, runs.steps()).get("/run", params={"run": OF_CLI.run}))
    assert "Released by ada from being held" in said
    assert f"mnist-ops runs resume {manifest}" in said


def test_in_airflow_one_click_releases_and_clears_assess(client, runs) -> None:
    """The script finds on the page which request it makes."""
    held(runs)
    text = run_page(client, runs, Role.ADMIN, airflow=True).text
    assert 'data-clear="/api/v2/dags/classify_records/clearTaskInstances"' in text
    assert f'data-run-id="{RUN_ID}"' in text
