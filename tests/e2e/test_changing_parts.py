"""Runs that find more or fewer parts each time they start again, in Airflow's own scheduler.

Each case has a day of its own and three generations: from one part to none and back, from one to none to
three, from three to one and back. Runs by hand are cleared, those of a backfill are reprocessed, and all
cases run at the same time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from pymongo import ReplaceOne

from tests.e2e.deployment import CLASSIFY, TIMEOUT_S, Deployment, Run
from tests.e2e.website import Website

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PART = 80  # records; the stack is set up so
SHAPES = ((1, 0, 1), (1, 0, 3), (3, 1, 3))  # parts in each generation
# Shapes by the day of a case, counted back from today; those of the backfill follow each other.
CLEARED = dict(zip((30, 29, 28), SHAPES, strict=True))
REPROCESSED = dict(zip((26, 25, 24), SHAPES, strict=True))
DAYS = CLEARED | REPROCESSED


@dataclass(frozen=True)
class Cases:
    """Starts the runs of all cases, one generation after the other.

    Attributes:
        deployment: where they run.
        website: where their records come from.
    """

    deployment: Deployment
    website: Website

    def generations(self) -> Mapping[int, list[Run]]:
        """What each run left after each of its generations, by its day."""
        found: dict[int, list[Run]] = {day: [] for day in DAYS}
        by_hand: dict[int, str] = {}
        for generation in range(3):
            self._let_records_wait(generation)
            if not by_hand:
                by_hand = {day: self._trigger(day) for day in CLEARED}
            else:
                for run_id in by_hand.values():
                    self.deployment.clear(run_id, run_on_latest_version=True)
            for day, run_id in (by_hand | self._backfill()).items():
                found[day].append(self.deployment.finished(run_id))
        return found

    def _let_records_wait(self, generation: int) -> None:
        """Store as many records of each day as make the parts of this generation."""
        records = [
            record
            for day, parts in DAYS.items()
            for record in self.website.of_day(day, (parts[generation] - 1) * PART + 1)
        ]
        self.deployment.collection.bulk_write(
            [ReplaceOne({"_id": record["_id"]}, dict(record), upsert=True) for record in records]
        )

    def _trigger(self, day: int) -> str:
        since, until = (moment.isoformat() for moment in self.website.window(day))
        return self.deployment.trigger({"since": since, "until": until})

    def _backfill(self) -> dict[int, str]:
        """Run the windows of the backfill, again if they are done; the ids of the runs by day."""
        airflow, windows = self.deployment.airflow, {day: self.website.window(day)[0] for day in REPROCESSED}
        first, last = min(windows.values()), max(windows.values())
        self.deployment.close_former_backfills()
        options = {"reprocess_behavior": "completed", "run_backwards": False, "dag_run_conf": {}}
        backfill = airflow.backfill(CLASSIFY, first, last, {**options, "max_active_runs": len(windows)})
        airflow.wait_for_backfill(backfill, TIMEOUT_S)
        ids = {
            str(run["data_interval_start"]): str(run["dag_run_id"])
            for run in airflow.backfill_runs(CLASSIFY, first, last)
        }
        return {day: ids[since.strftime("%Y-%m-%dT%H:%M:%SZ")] for day, since in windows.items()}


@pytest.fixture(scope="module")
def generations(deployment: Deployment, website: Website, champion: str) -> Mapping[int, list[Run]]:
    """The generations of each case's run, by its day."""
    assert champion
    return Cases(deployment, website).generations()


@pytest.mark.parametrize("day", CLEARED, ids=lambda day: "-".join(map(str, CLEARED[day])))
def test_a_cleared_run_does_the_parts_that_it_finds(generations, day):
    """However many it had before: each generation is green and has done all its parts.

    It runs on the latest version of the DAG: when Airflow looks at its tasks for that, it removes those that
    were not needed before.
    """
    assert [(run.state, parts_done(run)) for run in generations[day]] == done(CLEARED[day])


@pytest.mark.parametrize("day", REPROCESSED, ids=lambda day: "-".join(map(str, REPROCESSED[day])))
def test_a_reprocessed_run_does_the_parts_that_it_finds(generations, day):
    """Likewise where a backfill starts it again."""
    assert [(run.state, parts_done(run)) for run in generations[day]] == done(REPROCESSED[day])


def parts_done(run: Run) -> tuple[int, ...]:
    """How many parts are fetched, classified and published in a run."""
    return tuple(run.tasks[name].count("success") for name in ("part.fetch", "part.classify", "publish"))


def done(shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """What green generations with these parts leave."""
    return [("success", (parts,) * 3) for parts in shape]
