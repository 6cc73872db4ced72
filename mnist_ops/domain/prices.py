"""The estimated cost of a run: its requests, bytes and times, multiplied by a price list."""

from collections.abc import Mapping
from dataclasses import dataclass

from mnist_ops.domain.stages import StageReport

GIBIBYTE = 1 << 30
_SECONDS_PER_HOUR = 3_600
# S3's operations by price class, by the start of their names. Deleting and aborting are free.
_WRITES = ("Put", "Copy", "Post", "Create", "Upload", "Complete", "List")
_FREE = ("Delete", "Abort")


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimated cost.

    Attributes:
        currency: the currency of all amounts.
        records: the number of records that were processed.
        by: the amounts by resource, such as `s3_writes` or `cpu`.
    """

    currency: str
    records: int
    by: Mapping[str, float]

    @property
    def total(self) -> float:
        """The sum of all amounts."""
        return sum(self.by.values())

    @property
    def per_1000_records(self) -> float | None:
        """The total for 1,000 records; None without records."""
        return 1_000 * self.total / self.records if self.records else None

    def document(self) -> dict[str, object]:
        """As values that MongoDB and JSON can store."""
        return {
            "currency": self.currency,
            "total": self.total,
            "per_1000_records": self.per_1000_records,
            "by": dict(self.by),
        }


@dataclass(frozen=True, slots=True)
class Prices:
    """A price list, in one currency.

    The defaults are public list prices in us-east-1 as of 2025, before any discount. S3 Standard
    (https://aws.amazon.com/s3/pricing/), whose traffic with EC2 in the same region is free. For CPU one
    of the two vCPUs of an m7i.large on demand (0.1008 an hour), for GPU a g4dn.xlarge with one T4
    (https://aws.amazon.com/ec2/pricing/on-demand/).

    Attributes:
        currency: a code of ISO 4217.
        s3_writes: for 1,000 PUT, COPY, POST and LIST requests.
        s3_reads: for 1,000 GET, HEAD and other requests.
        s3_sent: for a GiB sent to S3.
        s3_received: for a GiB received from S3.
        cpu_hour: for an hour of one core at work.
        gpu_hour: for an hour in which a GPU is held.
    """

    currency: str = "USD"
    s3_writes: float = 0.005
    s3_reads: float = 0.0004
    s3_sent: float = 0.0
    s3_received: float = 0.0
    cpu_hour: float = 0.0504
    gpu_hour: float = 0.526

    def cost(self, work: StageReport, records: int) -> Cost:
        """The estimated cost of work.

        It assumes that every machine is fully used. Not included: idle machines, the database, Airflow's own
        processes, and storage.

        Args:
            work: the sum of the steps' reports.
            records: the number of records that were processed.
        """
        requests = work.s3_requests.items()
        writes = sum(count for kind, count in requests if kind.startswith(_WRITES))
        reads = sum(count for kind, count in requests if not kind.startswith(_WRITES + _FREE))
        by = {
            "s3_writes": writes / 1_000 * self.s3_writes,
            "s3_reads": reads / 1_000 * self.s3_reads,
            "s3_sent": work.s3_sent / GIBIBYTE * self.s3_sent,
            "s3_received": work.s3_received / GIBIBYTE * self.s3_received,
            "cpu": work.cpu_s / _SECONDS_PER_HOUR * self.cpu_hour,
            "gpu": work.gpu_s / _SECONDS_PER_HOUR * self.gpu_hour,
        }
        return Cost(self.currency, records, by)
