"""Train LeNet-5 on the human-labelled records and release it.

1. `plan` checks the parameters, so a wrong one fails before anything starts.
2. `snapshot` and `fetch` copy all labelled records and their images to S3. Images that an earlier data set
   already has are reused.
3. `build_dataset` splits them into train, validation and test folds by the hash of the image's bytes.
4. `train` runs once for each trial of the sweep, or once for a single configuration: each in a fresh process,
   on the queue `gpu`, one at a time.
5. `choose` picks the trial with the best validation result. `evaluate` measures it and the champion on the
   same test fold. `release` makes a bundle and registers it as a candidate.
6. `approve` waits for a person, if a run or the settings ask for that. `promote` makes the candidate the
   champion if the gate allows it. Only one run is active at a time, so an unanswered approval delays the next
   run, by two days at most.

A run starts every Sunday at 0:00 (UTC). Unpausing the DAG starts none, unless one that was due after an
earlier scheduled run was missed.

If `MNIST_OPS_TRAINING_INSTANCE_ID` names an EC2 instance, it is started before the training and stopped after
it, regardless of the outcome. If no record is labelled, the run is skipped from `fetch` on.
"""

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag

from mnist_airflow.assets import MODEL_PROMOTED, MODEL_RELEASED
from mnist_airflow.operators import (
    ApprovePromotionOperator,
    BuildDatasetOperator,
    ChooseTrainingOperator,
    EvaluateModelOperator,
    FetchImagesOperator,
    PlanTrainingsOperator,
    PromoteModelOperator,
    ReleaseModelOperator,
    SnapshotRecordsOperator,
    TrainModelOperator,
)
from mnist_airflow.operators.instances import StartTrainingInstanceOperator, StopTrainingInstanceOperator
from mnist_airflow.operators.records import PART_NAME
from mnist_airflow.retries import RETRIES

OPTIMIZERS = ("adamw", "adam", "sgd", "adadelta")

# The most common hyperparameters. All others go into `config`.
FIELDS = {
    "epochs": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        maximum=1000,
        title="Epochs",
        description="Passes over the training fold; empty for the default, 30.",
    ),
    "batch_size": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        maximum=65536,
        title="Batch size",
        description="Examples a step; empty for the default, 128.",
    ),
    "learning_rate": Param(
        None,
        type=["null", "number"],
        exclusiveMinimum=0,
        maximum=10,
        title="Learning rate",
        description="The peak of the one-cycle schedule; empty for the default, 0.004.",
    ),
    "optimizer": Param(
        None,
        type=["null", "string"],
        enum=[None, *OPTIMIZERS],
        # What the form shows for each value; without a text of its own, None would be shown as "null".
        values_display={None: "default (adamw)"} | {name: name for name in OPTIMIZERS},
        title="Optimizer",
        description="adamw, adam, sgd with momentum, or adadelta.",
    ),
    "seed": Param(
        None,
        type=["null", "integer"],
        minimum=0,
        title="Seed",
        description="Of the first weights and the order of examples; empty for the default, 0.",
    ),
}

PARAMS = FIELDS | {
    "config": Param(
        None,
        type=["null", "object"],
        title="Configuration",
        description='Hyperparameters by name, such as {"network": "mnistnet"}; the fields above go first.',
    ),
    "sweep": Param(
        None,
        type=["null", "object"],
        additionalProperties={"type": "array", "minItems": 1},
        title="Sweep",
        description='Lists of values by name, such as {"kernel_sizes": [[3, 3], [5, 5]]}: every combination '
        "is trained, and the one that validates best goes on.",
    ),
    "require_approval": Param(
        default=False,
        type="boolean",
        title="Ask before promoting",
        description="Wait for a person's approval where the gate allows the promotion.",
    ),
}


@dag(
    dag_id="train_lenet",
    doc_md=__doc__,
    # Without a start date the first run comes at the next Sunday's midnight, not when the DAG is unpaused. If
    # the scheduler is late, it starts that run up to ten minutes after it was due.
    schedule=CronTriggerTimetable(
        "@weekly", timezone="UTC", interval=timedelta(weeks=1), run_immediately=timedelta(minutes=10)
    ),
    catchup=False,
    # Every training takes all labelled records, so two at the same time would do the same work.
    max_active_runs=1,
    params=PARAMS,
    render_template_as_native_obj=True,
    tags=["mnist-ops", "training"],
    default_args={
        "owner": "mnist-ops",
        "execution_timeout": timedelta(hours=1),
        **RETRIES,
    },
)
def train_lenet() -> None:
    """Plan, snapshot, fetch part by part, build the data set, train, choose, evaluate, release, promote."""
    plan = PlanTrainingsOperator(
        task_id="plan",
        config="{{ params.config }}",
        fields={name: f"{{{{ params.{name} }}}}" for name in FIELDS},
        sweep="{{ params.sweep }}",
    )
    snapshot = SnapshotRecordsOperator(task_id="snapshot", labelled=True)
    images = FetchImagesOperator.partial(
        task_id="fetch", reuse_images=True, map_index_template=PART_NAME
    ).expand(part=snapshot.output)
    # Results of tasks further back are pulled by name: each `output` would draw an arrow across the graph.
    manifest = "{{ ti.xcom_pull(task_ids='snapshot', key='manifest') }}"
    dataset = BuildDatasetOperator(task_id="build_dataset", manifest=manifest, images=images.output)
    training = TrainModelOperator.partial(
        task_id="train",
        dataset="{{ ti.xcom_pull(task_ids='build_dataset') }}",
        swept="{{ params.sweep }}",
        map_index_template="{{ trial }}",
        pool="gpu",
        queue="gpu",
        execution_timeout=timedelta(hours=12),
    ).expand(config=plan.output)
    # The next three tasks need torch too, so they run on the queue whose workers have it.
    choice = ChooseTrainingOperator(
        task_id="choose", manifest=manifest, trainings=training.output, queue="gpu"
    )
    evaluation = EvaluateModelOperator(task_id="evaluate", training=choice.output, queue="gpu")
    release = ReleaseModelOperator(
        task_id="release", evaluation=evaluation.output, queue="gpu", outlets=[MODEL_RELEASED]
    )
    # The instance is stopped before a person is asked: an answer may take days.
    approval = ApprovePromotionOperator(
        task_id="approve", gate_result=release.output, required="{{ params.require_approval }}"
    )
    PromoteModelOperator(
        task_id="promote",
        gate_result="{{ ti.xcom_pull(task_ids='release') }}",
        approval=approval.output,
        outlets=[MODEL_PROMOTED],
    )
    plan >> snapshot

    # Whatever EC2 answers may change: it is asked for an hour.
    start = StartTrainingInstanceOperator(task_id="start_instance", retry_policy=None)
    # An instance that is not stopped costs money: retry for three hours, and fail the run if it still runs.
    stop = StopTrainingInstanceOperator(task_id="stop_instance", retries=24, retry_policy=None)
    stop.as_teardown(setups=start, on_failure_fail_dagrun=True)
    # Stop only after all of them: when one training fails, others may still be running.
    dataset >> start >> training
    [training, choice, evaluation, release] >> stop


train_lenet()
