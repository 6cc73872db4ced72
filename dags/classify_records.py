"""Label the records that wait for a label.

1. `snapshot` copies the waiting records to S3, in parts.
2. `fetch` and `classify` run once for each part: they download its images and classify them.
3. `assess` compares the failures of the whole run with the failure budget.
4. `publish` runs once for each part and writes predictions and failures into the records.
5. `reconcile` writes the ledger, which accounts for every selected record.

| run | takes waiting records created |
|---|---|
| scheduled | before the end of its interval: late arrivals are never missed |
| backfill | in its interval, with `reclassify` and `limit` from its configuration |
| manual | in the form's since/until; without them, in an interval given by the API; else all so far |

A record waits if it has no human label, no prediction, and no failure that is permanent or not yet due.
`reclassify` also takes predicted records: `stale` (predicted by another model than the champion),
`changed` (the URL was edited since), `all`. A human label is never changed. A replaced prediction is kept
in the record's history.
"""

import os
from datetime import timedelta

import pendulum
from airflow.sdk import CronDataIntervalTimetable, Param, TriggerRule, dag, task_group

from mnist_airflow.assets import RECORDS_LABELLED
from mnist_airflow.operators import (
    AssessRunOperator,
    ClassifyImagesOperator,
    FetchImagesOperator,
    PublishPredictionsOperator,
    ReconcileRunOperator,
    SnapshotRecordsOperator,
)

PARAMS = {
    "since": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="Created at or after",
        description="Take records created at or after this moment.",
        section="Window",
    ),
    "until": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="Created before",
        description="Take records created before this moment.",
        section="Window",
    ),
    "limit": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="At most",
        description="Take at most this many records, the oldest first.",
        section="Window",
    ),
    "reclassify": Param(
        "never",
        type="string",
        enum=["never", "stale", "changed", "all"],
        title="Reclassify",
        description="Which records that have a prediction are taken again.",
        section="Predictions",
    ),
    "dry_run": Param(
        False,  # noqa: FBT003 (the form's default)
        type="boolean",
        title="Only count",
        description="Say how many records would be taken, and write nothing.",
        section="Predictions",
    ),
}


@dag(
    dag_id="classify_records",
    doc_md=__doc__,
    # Read on its own, not through Settings: a wrong setting elsewhere must fail a task, not this file.
    schedule=CronDataIntervalTimetable(
        os.environ.get("MNIST_OPS_CLASSIFY_SCHEDULE") or "@daily", timezone="UTC"
    ),
    start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
    catchup=False,
    # Two runs never write the same record twice, so they may run at the same time. A backfill has its own
    # limit.
    max_active_runs=4,
    params=PARAMS,
    render_template_as_native_obj=True,
    tags=["mnist-ops", "inference"],
    default_args={
        "owner": "mnist-ops",
        "retries": 3,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(hours=1),
    },
)
def classify_records() -> None:
    """Snapshot, then fetch and classify part by part, assess, publish part by part, reconcile."""
    snapshot = SnapshotRecordsOperator(
        task_id="snapshot",
        since="{{ params.since }}",
        until="{{ params.until }}",
        reclassify="{{ params.reclassify }}",
        limit="{{ params.limit }}",
        preview="{{ params.dry_run }}",
    )
    manifest = snapshot.output["manifest"]

    @task_group(group_id="part")
    def classify_part(part: str) -> object:
        """One part's images, fetched and classified."""
        images = FetchImagesOperator(
            task_id="fetch",
            part=part,
            # At most 4 parts of a run ask the image servers at a time. The limit is per run, not per DAG:
            # otherwise a backfill would use up the slots of live runs. Backfills have a pool of their own.
            max_active_tis_per_dagrun=4,
            # A part whose images are on a slow host takes hours.
            execution_timeout=timedelta(hours=6),
        )
        return ClassifyImagesOperator(task_id="classify", images=images.output).output

    predictions = classify_part.expand(part=snapshot.output)
    assessed = AssessRunOperator(task_id="assess", manifest=manifest, predictions=predictions)
    published = PublishPredictionsOperator.partial(
        task_id="publish", assessment=assessed.output["assessment"]
    ).expand(predictions=assessed.output)
    reconciled = ReconcileRunOperator(
        task_id="reconcile",
        # Not the XComArg: it cannot be rendered if the snapshot was skipped or failed.
        manifest="{{ ti.xcom_pull(task_ids='snapshot', key='manifest') }}",
        outcomes=published.output,
        preview="{{ params.dry_run }}",
        trigger_rule=TriggerRule.ALL_DONE,
        outlets=[RECORDS_LABELLED],
    )
    snapshot >> reconciled


classify_records()
