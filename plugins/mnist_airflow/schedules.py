"""When `classify_records` runs.

Its two settings are read on their own, not through Settings: a wrong setting elsewhere must fail a task, not
the DAG's file.
"""

from collections.abc import Mapping

from airflow.sdk import AssetOrTimeSchedule, CronDataIntervalTimetable

from mnist_airflow.assets import RECORDS_ARRIVED

# As pydantic reads a boolean.
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


def classify_schedule(environment: Mapping[str, str]) -> CronDataIntervalTimetable | AssetOrTimeSchedule:
    """By the clock, and when records arrive; by the clock alone if `MNIST_OPS_WATCH` is false.

    Each of the two keeps the DAG's data intervals, so that it can be backfilled.
    """
    by_clock = CronDataIntervalTimetable(
        environment.get("MNIST_OPS_CLASSIFY_SCHEDULE") or "@daily", timezone="UTC"
    )
    if environment.get("MNIST_OPS_WATCH", "").strip().lower() in _FALSE:
        return by_clock
    return AssetOrTimeSchedule(timetable=by_clock, assets=[RECORDS_ARRIVED])
