"""What a task read and wrote, for OpenLineage, which asks the operators by the name of a method.

The provider is no dependency: what is imported from it is imported when it asks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

# A dataset's namespace, such as `s3://bucket`, and its name in it, such as a key.
DatasetName = tuple[str, str]

_MONGODB_PORT = 27017


@dataclass(frozen=True, slots=True)
class TaskLineage:
    """What a task read and wrote, in the form that OpenLineage's provider reads.

    Attributes:
        inputs: OpenLineage's data sets that it read.
        outputs: those that it wrote.
        run_facets: nothing more of the run.
        job_facets: nothing more of the task.
    """

    inputs: list[Any]
    outputs: list[Any]
    run_facets: Mapping[str, Any] = field(default_factory=dict)
    job_facets: Mapping[str, Any] = field(default_factory=dict)


def object_names(values: Iterable[str | Sequence[str | None] | None]) -> list[DatasetName]:
    """The objects that an operator's arguments name: URIs, lists of them, and references to parts."""
    uris: dict[str, None] = {}
    for value in values:
        several = [value] if isinstance(value, str) else value or ()
        uris |= dict.fromkeys(uri.partition("#")[0] for uri in several if uri)
    split = map(urlsplit, uris)
    return [(f"{uri.scheme}://{uri.netloc}", uri.path.lstrip("/")) for uri in split]


def records_name(host: str | None, port: int | None, database: str, collection: str) -> DatasetName:
    """The collection of the records."""
    return f"mongodb://{host or '127.0.0.1'}:{port or _MONGODB_PORT}", f"{database}.{collection}"


def task_lineage(inputs: Iterable[DatasetName], outputs: Iterable[DatasetName]) -> TaskLineage:
    """The lineage of a task, in OpenLineage's classes."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    def datasets(names: Iterable[DatasetName]) -> list[Any]:
        return [Dataset(namespace=namespace, name=name) for namespace, name in names]

    return TaskLineage(datasets(inputs), datasets(outputs))
