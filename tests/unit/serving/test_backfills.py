"""The preview of a backfill: its counts are what its runs take, and its page says how to start it."""

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest

from mnist_ops.domain.backfill_windows import BackfillRequest
from mnist_ops.domain.outcomes import Ledger
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.selection import Reclassify
from mnist_ops.serving.access import Role
from tests.support.pipeline_in_memory import Pipeline, url_of

BROWSER = {"Accept": "text/html"}
FIELDS = {"since": "2026-01-20", "until": "2026-01-26"}
SIZES = (3, 0, 8, 1, 14, 5)  # records of each day


def day(number: int) -> datetime:
    """A day of January 2026."""
    return datetime(2026, 1, number, tzinfo=UTC)


def add_days(pipeline: Pipeline, first: int, sizes: tuple[int, ...]) -> None:
    """Waiting records of digits, some each day."""
    for number, size in enumerate(sizes):
        for each in range(size):
            created_at = day(first + number) + timedelta(minutes=each)
            pipeline.add_digit(f"{first + number}-{each}", each, created_at=created_at)


def run_windows(pipeline: Pipeline, first: int, days: int, policy: str) -> list[Ledger]:
    """What a backfill runs: each day on its own."""
    return [
        pipeline.run(
            f"classify_records/{number}-{policy}", since=day(number), until=day(number + 1), reclassify=policy
        )
        for number in range(first, first + days)
    ]


@pytest.mark.parametrize("policy", Reclassify)
def test_the_preview_counts_what_each_run_then_takes(
    pipeline: Pipeline, champion: BundleRef, policy: Reclassify
) -> None:
    """Waiting, failed, labelled, and predicted by this or another model, in three windows."""
    failure = {"reason": "not_found", "attempts": 5, "next_attempt_at": None}
    for number, created_at in enumerate((day(20), day(21), day(21) + timedelta(hours=5), day(23))):
        values = {"created_at": created_at}
        pipeline.add_digit(f"waiting {number}", number, **values)
        pipeline.add_digit(f"labelled {number}", number, label="seven", **values)
        failed = f"failed {number}"
        pipeline.add_digit(
            failed, number, prediction_failure={**failure, "image_url": url_of(failed)}, **values
        )
        for digest in (champion.digest, "sha256:former"):
            name = f"{digest} {number}"
            prediction = {"model": {"digest": digest}, "image": {"url": url_of(name)}, "run": "a/b"}
            pipeline.add_digit(name, number, prediction=prediction, **values)
    request = BackfillRequest(day(20), day(23), reclassify=policy)
    preview = pipeline.steps().preview_backfill(request)
    taken = [ledger.selected for ledger in run_windows(pipeline, 20, 3, str(policy))]
    assert [each.records for each in preview.windows] == taken
    each_day = {"never": 1, "failed": 2, "stale": 2, "changed": 1, "all": 4}[policy]
    assert taken == [each_day, 2 * each_day, 0]


def test_the_preview_is_within_a_fifth_of_what_the_backfill_then_takes(pipeline: Pipeline) -> None:
    """Records exactly; bytes and requests from the ledgers of other windows, of other sizes."""
    add_days(pipeline, 1, (2, 6, 0, 11, 20))
    run_windows(pipeline, 1, 5, "never")
    add_days(pipeline, 20, SIZES)
    preview = pipeline.steps().preview_backfill(BackfillRequest(day(20), day(26)))
    ledgers = run_windows(pipeline, 20, 6, "never")
    estimate = preview.estimate
    assert estimate is not None
    assert preview.records == sum(ledger.selected for ledger in ledgers) == sum(SIZES)
    done = {
        "image_bytes": sum(ledger.stages["fetch"].bytes for ledger in ledgers if ledger.selected),
        "s3_requests": sum(sum(ledger.work.s3_requests.values()) for ledger in ledgers),
        "s3_sent": sum(ledger.work.s3_sent for ledger in ledgers),
        "s3_received": sum(ledger.work.s3_received for ledger in ledgers),
    }
    for name, amount in done.items():
        assert getattr(estimate, name).about == pytest.approx(amount, rel=0.2), name


# --- the page


@pytest.fixture
def indexed(pipeline: Pipeline) -> Pipeline:
    """A pipeline whose indexes are made, with waiting records in six windows."""
    pipeline.records.ensure_indexes()
    add_days(pipeline, 20, SIZES)
    return pipeline


def test_the_form_alone_counts_nothing(client, pipeline: Pipeline) -> None:
    """It proposes the last seven days, and names the schedule."""
    text = client().get("/backfills").text
    assert "What it would do" not in text
    assert 'value="2026-01-24"' in text
    assert f'value="{pipeline.at:%Y-%m-%d}"' in text
    assert "<code>@daily</code>" in text


@pytest.mark.usefixtures("indexed")
def test_the_preview_has_the_counts_and_the_command(client) -> None:
    """For each window, and in all; without ledgers there is no estimate, which is said."""
    text = client().get("/backfills", params={**FIELDS, "reclassify": "all", "limit": "10"}).text
    rows = re.findall(r'<th scope="row">(\S+) 00:00</th><td.*?>1</td><td.*?>(\d+)</td>', text)
    assert rows == [(f"2026-01-{20 + number}", str(min(size, 10))) for number, size in enumerate(SIZES)]
    assert '<p class="figure">27</p>' in text
    command = unescape(re.search(r'<pre id="command".*?>(.*?)</pre>', text)[1])
    assert "--from-date 2026-01-20T00:00:00Z --to-date 2026-01-25T00:00:00Z --max-active-runs 4" in command
    assert """--dag-run-conf '{"reclassify": "all", "limit": 10}'""" in command
    assert "needs 3 finished runs with records. There are 0." in text


def test_the_estimate_comes_from_the_ledgers(client, indexed: Pipeline) -> None:
    """With what it is like, its spread and the time of each step."""
    run_windows(indexed, 20, 6, "never")
    text = client().get("/backfills", params={**FIELDS, "reclassify": "all"}).text
    assert "Estimated from the 5 newest runs." in text
    assert "None of them took predicted records again." in text
    assert re.search(r"<dt>Cost</dt><dd>about 0\.\d{6}.* USD</dd>", text)
    assert re.search(r"<dt>Time of tasks</dt><dd>.*fetch \d", text)


@pytest.mark.usefixtures("indexed")
@pytest.mark.parametrize(
    ("role", "airflow", "shown"),
    [(Role.REVIEWER, True, True), (Role.VIEWER, True, False), (Role.ADMIN, False, False)],
)
def test_it_is_started_in_airflow_by_who_may(client, role: Role, airflow: bool, shown: bool) -> None:
    """By Airflow's own API; alone there is only the command."""
    text = client(role, airflow=airflow).get("/backfills", params=FIELDS).text
    start = re.search(r'<form id="start" hidden data-api="(.*?)".*data-body=\'(.*?)\'>', text)
    assert (start is not None) == shown
    assert "Copy the command" in text
    if start is not None:
        assert start[1] == "/api/v2/backfills"
        body = json.loads(start[2])
        assert (body["to_date"], body["reprocess_behavior"]) == ("2026-01-25T00:00:00Z", "completed")


@pytest.mark.usefixtures("indexed")
def test_a_limit_that_no_database_takes_is_refused(client) -> None:
    """It is no 64-bit number."""
    assert client().get("/backfills", params={**FIELDS, "limit": "1" + "0" * 30}).status_code == 422


@pytest.mark.usefixtures("indexed")
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"since": "2026-01-20", "until": ""}, "give both days"),
        ({"since": "2026-01-20", "until": "2026-01-20"}, "is not before until"),
        ({"since": "2020-01-20", "until": "2026-01-20"}, "more than 366 windows"),
        ({**FIELDS, "reclassify": "stael"}, "did you mean stale?"),
        ({**FIELDS, "reclassify": "<script>"}, "&#39;&lt;script&gt;&#39; is unknown"),
        ({**FIELDS, "since": "yesterday"}, "is not a date and time"),
    ],
)
def test_what_cannot_be_previewed_is_said_above_the_form(client, fields, said: str) -> None:
    """The form keeps what was typed."""
    answer = client().get("/backfills", params=fields, headers=BROWSER)
    assert (answer.status_code, said in answer.text, "<form" in answer.text) == (400, True, True)
    assert "<script>" not in answer.text


def test_without_its_index_nothing_is_counted(client, pipeline: Pipeline) -> None:
    """The page would scan the collection once for each window."""
    add_days(pipeline, 20, SIZES)
    assert "run `mnist-ops init`" in client().get("/backfills", params=FIELDS).text


def test_counting_ends_after_a_while(client, indexed: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of years are counted on the command line."""
    monkeypatch.setattr("mnist_ops.serving.pages.backfills._COUNTING_LIMIT_S", -1.0)
    text = client(steps=indexed.steps()).get("/backfills", params=FIELDS).text
    assert "0 windows were counted in -1 s, and there are more" in text


def test_many_windows_are_summed_by_day(client, indexed: Pipeline) -> None:
    """A list is at most a hundred rows."""
    steps = indexed.steps(classify_schedule="0 * * * *")
    text = client(steps=steps).get("/backfills", params=FIELDS).text
    assert "Records by day" in text
    rows = re.findall(r'<th scope="row">(\S+)</th><td.*?>24</td><td.*?>(\d+)</td>', text)
    assert rows == [(f"2026-01-{20 + number}", str(size)) for number, size in enumerate(SIZES)]
