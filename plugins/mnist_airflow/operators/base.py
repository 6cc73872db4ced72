"""The base of all operators: connections, settings, and how errors map to Airflow's."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.sdk import BaseOperator, get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk.log import redact

from mnist_airflow.lineage import DatasetName, TaskLineage, object_names, records_name, task_lineage
from mnist_airflow.metrics import Metric, send, stage_metrics
from mnist_airflow.run_notes import ERROR, NOTE
from mnist_ops.domain.keys import is_of_generation

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mnist_ops.domain.keys import Generation
    from mnist_ops.domain.stages import StageReport
    from mnist_ops.pipeline import Pipeline
    from mnist_ops.settings import Settings

_log = logging.getLogger(__name__)

# Characters of a failed task's error that its run's note tells.
_ERROR_CHARACTERS = 200


def uris_of(pulled: str | Sequence[str | None] | None, generation: "Generation") -> list[str]:
    """The URIs that mapped tasks returned in this generation.

    Airflow 3.3 returns a single value, not a list, for a mapped task group that ran once. It returns None for
    a task that returned nothing. After a run was cleared and has fewer parts, it also returns the values of
    the former tasks, which belong to another generation.
    """
    # Slicing requests all values at once; iterating would make a request for each.
    values = [pulled] if pulled is None or isinstance(pulled, str) else pulled[:]
    return [uri for uri in values if uri and is_of_generation(uri, generation)]


@contextmanager
def permanent_errors_fail() -> Iterator[None]:
    """Turn `Permanent` errors and wrong settings into Airflow's fail exception: no retry can fix them.

    The first line of what the task fails with is its XCom `error`, for the run's note.
    """
    from pydantic import ValidationError

    from mnist_ops.domain.errors import Permanent
    from mnist_ops.domain.run_summary import RunFailed
    from mnist_ops.validation import problems_of

    with _error_pushed():
        try:
            yield
        except ValidationError as error:
            raise AirflowFailException("; ".join(map(str, problems_of(error)))) from error
        except RunFailed as error:
            # Not chained: its lines would be in the log twice, with a traceback that tells nothing more.
            raise AirflowFailException(str(error)) from None
        except Permanent as error:
            raise AirflowFailException(str(error)) from error


@contextmanager
def _error_pushed() -> Iterator[None]:
    try:
        yield
    except AirflowSkipException:
        raise
    except Exception as error:
        _push_error(next(iter(str(error).splitlines()), "") or type(error).__name__)
        raise


def _push_error(line: str) -> None:
    with push_failures_logged():
        try:
            task = get_current_context()["ti"]
        except RuntimeError:
            _log.debug("no task of Airflow is running, so nobody is told")
        else:
            # Masked before it is cut: of a secret that is cut in two, the first half would stay.
            task.xcom_push(ERROR, str(redact(line))[:_ERROR_CHARACTERS])


@contextmanager
def push_failures_logged() -> Iterator[None]:
    """Log that something could not be pushed and go on, where the task fails with an error of its own."""
    try:
        yield
    except Exception:  # noqa: BLE001 (the error of the task matters more)
        _log.exception("the note of the run will not say all of why the task failed")


def push_note(context: "Context", lines: Sequence[str]) -> None:
    """Say something of the run in its note, which is written when the run ends. Secrets are masked."""
    context["ti"].xcom_push(NOTE, str(redact("\n".join(lines))))


def refuse_unknown_params(context: "Context") -> None:
    """Refuse a misspelt parameter: Airflow accepts any name, and the run would ignore it silently."""
    from mnist_ops.domain.errors import Permanent

    known = context["dag"].params
    unknown = sorted(set(context["dag_run"].conf or {}) - set(known)) if known else []
    if unknown:
        raise Permanent(f"{', '.join(unknown)}: no such parameter; there are {', '.join(sorted(known))}")


class MnistOpsOperator(BaseOperator):
    """An operator that works on records in MongoDB and objects in S3.

    A `Permanent` error fails the task at once, any other leaves it to its retries.

    Args:
        mongo_conn_id: the connection to MongoDB.
        aws_conn_id: the connection to S3.
        database: the records' database; by default `MNIST_OPS_MONGO_DATABASE`.
        collection: the records' collection; by default `MNIST_OPS_MONGO_COLLECTION`.
        bucket: the bucket of all objects; by default `MNIST_OPS_S3_BUCKET`.
        prefix: put before every key; by default `MNIST_OPS_S3_PREFIX`.
        model_name: what models are released as; by default `MNIST_OPS_MODEL_NAME`.
        kwargs: BaseOperator's arguments.
    """

    # For the lineage: the arguments that name objects which the step reads, and what it does to the records.
    lineage_inputs: ClassVar[tuple[str, ...]] = ()
    lineage_records: ClassVar[Literal["read", "written"] | None] = None

    template_fields: tuple[str, ...] = (
        "mongo_conn_id",
        "aws_conn_id",
        "database",
        "collection",
        "bucket",
        "prefix",
        "model_name",
    )

    def __init__(  # noqa: PLR0913 (an operator's arguments are its interface)
        self,
        *,
        mongo_conn_id: str = "mongo_default",
        aws_conn_id: str = "aws_default",
        database: str | None = None,
        collection: str | None = None,
        bucket: str | None = None,
        prefix: str | None = None,
        model_name: str | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.mongo_conn_id = mongo_conn_id
        self.aws_conn_id = aws_conn_id
        self.database = database
        self.collection = collection
        self.bucket = bucket
        self.prefix = prefix
        self.model_name = model_name
        self._written: list[str] = []

    def settings(self) -> "Settings":
        """The settings of the environment, with what was given to this operator on top."""
        from mnist_ops.settings import Settings

        given = {
            "mongo_database": self.database,
            "mongo_collection": self.collection,
            "s3_bucket": self.bucket,
            "s3_prefix": self.prefix,
            "model_name": self.model_name,
        }
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]

    @contextmanager
    def pipeline(self) -> Iterator["Pipeline"]:
        """The steps, over this operator's connections; inside, permanent errors fail the task at once.

        Every step that ends inside sends its metrics.
        """
        from mnist_airflow.connections import pipeline_of_connections
        from mnist_ops.domain.stages import reports_to

        with (
            permanent_errors_fail(),
            reports_to(self.send_stage),
            pipeline_of_connections(self.settings(), self.mongo_conn_id, self.aws_conn_id) as pipeline,
        ):
            yield pipeline

    def wrote(self, uri: str) -> str:
        """Keep the URI of what the step wrote, for the lineage; returns it."""
        self._written.append(uri)
        return uri

    def lineage(self) -> tuple[list[DatasetName], list[DatasetName]]:
        """What the step read, and what it wrote as far as it has been executed."""
        inputs = object_names(getattr(self, name) for name in self.lineage_inputs)
        outputs = object_names(self._written)
        if self.lineage_records is not None:
            (inputs if self.lineage_records == "read" else outputs).append(self._records_name())
        return inputs, outputs

    def _records_name(self) -> DatasetName:
        from airflow.sdk import Connection

        where, settings = Connection.get(self.mongo_conn_id), self.settings()
        return records_name(where.host, where.port, settings.mongo_database, settings.mongo_collection)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> TaskLineage:  # noqa: ANN401, ARG002
        """The lineage in OpenLineage's classes; its provider calls this when the task has ended."""
        return task_lineage(*self.lineage())

    def send_stage(self, report: "StageReport") -> None:
        """Send the metrics of a step."""
        self.send_metrics(stage_metrics(report))

    def send_metrics(self, metrics: Iterable[Metric]) -> None:
        """Send metrics with this task's tags, through the backend that Airflow is configured with."""
        from airflow.sdk.observability import stats

        send(metrics, {"dag_id": self.dag_id, "task_id": self.task_id}, stats)
