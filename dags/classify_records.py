"""Label the records that wait for a label.

1. `snapshot` copies the waiting records to S3, in parts.
2. `fetch` and `classify` run once for each part: they download its images and classify them.
3. `assess` compares the failures of the whole run with the failure budget.
4. `publish` runs once for each part and writes predictions and failures into the records.
5. `reconcile` writes the ledger, which accounts for every selected record.

| run | takes waiting records created |
|---|---|
| scheduled | before the end of its interval: late arrivals are never missed |
| arriving records wake it | all so far |
| backfill | in its interval, with `reclassify` and `limit` from its parameters |
| manual | in the form's since/until; without them, in an interval given by the API; else all so far |

A record waits if it has no human label, no prediction, and no failure that is permanent or not yet due.
A human label is never changed. A replaced prediction is kept in the record's history.

`reclassify` also takes other records:

| `reclassify` | takes also |
|---|---|
| `never` | none |
| `failed` | records that failed for good |
| `failed:not_found,blocked_address` | of these only the records with one of the named reasons |
| `stale` | records predicted by another model than the champion |
| `changed` | predicted records whose image URL was edited since |
| `all` | all records without a human label |

**Backfills.** With Reprocess Behavior "All Runs" a backfill also runs days again that have a run already.
Without `reclassify` it takes only what still waits there. Airflow's backfill dialog passes its parameters
on, to new runs too, only if "Override parameters on existing runs" is ticked. `since`, `until` and `dry_run`
are for manual runs: a backfill with one of them fails at `snapshot`.

**What a run did** is in its note, in the last lines of `reconcile`'s log, and in the XCom `counts` of
`reconcile`. Its tab "MNIST Ops" shows every record with its picture, its label or the reason why it failed.
"Only count" leaves its number in the note and in the XCom `count` of `snapshot`.
The asset `mnist_ops_records_labelled` has an event for each run that predicted records.
"""

import os
from datetime import timedelta

import pendulum
from airflow.sdk import Param, TriggerRule, dag, task_group

from mnist_airflow.assets import MODEL_PROMOTED, RECORDS_LABELLED
from mnist_airflow.freshness import freshness_deadline
from mnist_airflow.operators import (
    AssessRunOperator,
    ClassifyImagesOperator,
    FetchImagesOperator,
    PublishPredictionsOperator,
    ReconcileRunOperator,
    SnapshotRecordsOperator,
)
from mnist_airflow.operators.records import PART_NAME
from mnist_airflow.retries import RETRIES
from mnist_airflow.schedules import classify_schedule
from mnist_airflow.windows import RECLASSIFY_PATTERN

PARAMS = {
    "since": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="Created at or after",
        description="Take records created at or after this moment. Manual runs only; not for backfills.",
        section="Window",
    ),
    "until": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="Created before",
        description="Take records created before this moment. Manual runs only; not for backfills.",
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
        pattern=RECLASSIFY_PATTERN,
        examples=["never", "failed", "failed:not_found,blocked_address", "stale", "changed", "all"],
        title="Reclassify",
        description="Which records are taken besides those that wait. never: none. failed: those that failed "
        "for good; failed:not_found,blocked_address: those with these reasons. stale: predicted by another "
        "model than the champion. changed: predicted from another image URL. all: all without a human label. "
        'In a backfill, tick "Override parameters on existing runs".',
        section="Predictions",
    ),
    "dry_run": Param(
        False,  # noqa: FBT003 (the form's default)
        type="boolean",
        title="Only count",
        description="Say in the run's note how many records would be taken; write nothing. Manual runs only.",
        section="Predictions",
    ),
}


@dag(
    dag_id="classify_records",
    doc_md=__doc__,
    schedule=classify_schedule(os.environ),
    start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
    catchup=False,
    deadline=freshness_deadline(os.environ),
    # Two runs never write the same record twice, so they may run at the same time. A backfill has its own
    # limit.
    max_active_runs=4,
    params=PARAMS,
    render_template_as_native_obj=True,
    tags=["mnist-ops", "inference"],
    default_args={
        "owner": "mnist-ops",
        "execution_timeout": timedelta(hours=1),
        **RETRIES,
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
        # For the graph of assets: it pins the champion.
        inlets=[MODEL_PROMOTED],
    )
    manifest = snapshot.output["manifest"]

    @task_group(group_id="part")
    def classify_part(part: str) -> object:
        """One part's images, fetched and classified."""
        images = FetchImagesOperator(
            task_id="fetch",
            part=part,
            map_index_template=PART_NAME,
            # At most 4 parts of a run ask the image servers at a time. The limit is per run, not per DAG:
            # otherwise a backfill would use up the slots of live runs. Backfills have a pool of their own.
            max_active_tis_per_dagrun=4,
            # A part whose images are on a slow host takes hours.
            execution_timeout=timedelta(hours=6),
        )
        classified = ClassifyImagesOperator(
            task_id="classify", images=images.output, map_index_template=PART_NAME
        )
        return classified.output

    predictions = classify_part.expand(part=snapshot.output)
    assessed = AssessRunOperator(task_id="assess", manifest=manifest, predictions=predictions)
    published = PublishPredictionsOperator.partial(
        task_id="publish", assessment=assessed.output["assessment"], map_index_template=PART_NAME
    ).expand(predictions=assessed.output)
    reconciled = ReconcileRunOperator(
        task_id="reconcile",
        # Not the XComArg: it cannot be rendered if the snapshot was skipped or failed.
        manifest="{{ ti.xcom_pull(task_ids='snapshot', key='manifest') }}",
        outcomes=published.output,
        # Not `dry_run`: a snapshot that failed to count is a failed run.
        preview="{{ ti.xcom_pull(task_ids='snapshot', key='count') is not none }}",
        trigger_rule=TriggerRule.ALL_DONE,
        outlets=[RECORDS_LABELLED],
    )
    snapshot >> reconciled


classify_records()
