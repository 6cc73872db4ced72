"""What a previewed backfill asks of Airflow: Airflow takes it, and runs the windows that were previewed."""

import json
import shlex
from datetime import UTC, datetime, timedelta

import pytest
from airflow.api_fastapi.core_api.datamodels.backfills import BackfillPostBody
from airflow.cli.cli_parser import get_parser
from airflow.models.backfill import _get_info_list
from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, CronDataIntervalTimetable
from airflow.serialization.serialized_objects import LazyDeserializedDAG

from mnist_ops.domain.backfill_windows import (
    BackfillRequest,
    Window,
    backfill_command,
    backfill_document,
    backfill_windows,
)
from mnist_ops.domain.selection import Reclassify
from mnist_ops.steps.cron_schedule import CronSchedule

SINCE = datetime(2026, 3, 2, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "expression", ["@daily", "@weekly", "*/30 * * * *", "30 6 1-15 * mon", "0 0,12 * * 1-5"]
)
def test_airflow_runs_the_windows_that_were_previewed(expression: str) -> None:
    """Airflow's own list of a backfill's intervals, of the dates that the preview hands over."""
    timetable = CronDataIntervalTimetable(expression, timezone="UTC")
    schedule = AssetOrTimeSchedule(timetable=timetable, assets=[Asset("arrived")])
    dag = DAG("previewed", schedule=schedule, start_date=datetime(2020, 1, 1, tzinfo=UTC))
    request = BackfillRequest(SINCE, SINCE + timedelta(days=1 if "*/" in expression else 40))
    windows = backfill_windows(CronSchedule(expression), request, datetime.now(UTC))
    body = BackfillPostBody.model_validate(backfill_document(request, windows))
    infos = _get_info_list(
        from_date=body.from_date,
        to_date=body.to_date,
        reverse=False,
        dag=LazyDeserializedDAG.from_dag(dag)._real_dag,
    )
    assert [Window(info.data_interval.start, info.data_interval.end) for info in infos] == windows


def test_airflow_understands_the_command() -> None:
    """Every option, with the parameters as JSON."""
    request = BackfillRequest(SINCE, SINCE + timedelta(days=4), Reclassify.STALE, limit=7)
    document = backfill_document(
        request, backfill_windows(CronSchedule("@daily"), request, datetime.now(UTC))
    )
    given = get_parser().parse_args(shlex.split(backfill_command(document))[1:])
    assert given.func.__name__ == "create_backfill"
    assert (given.dag_id, given.max_active_runs) == ("classify_records", 4)
    assert (given.from_date.isoformat(), given.to_date.isoformat()) == (
        "2026-03-03T00:00:00+00:00",
        "2026-03-05T00:00:00+00:00",
    )
    assert given.reprocess_behavior == "completed"
    assert json.loads(given.dag_run_conf) == {"reclassify": "stale", "limit": 7}
