"""The snapshot step beside the raw drain of the same records into a gzip file.

    python -m benchmarks.snapshot [--million]

200,000 records of some 400 bytes in the embedded database. In turn, in one process: `find_raw_batches` of the
whole collection into a gzip file; the same through the index that the selection uses; `aggregate_raw_batches`
of the selection itself, as runs have it, with an end of now; and the snapshot step, which hashes and stores
parts and a manifest as well. With `--million`, also the peak memory of
`mnist-ops steps snapshot` as a process of its own, over 200,000 and over 1,000,000 records.
"""

import argparse
import gzip
import os
import secrets
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection

from benchmarks.measuring import Measurement, machine, measure
from benchmarks.setting import store_large_records
from benchmarks.stores import adapters_of, client_of, stores, timed
from mnist_ops.adapters.mongo.selection_query import selection_pipeline
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.selection import Selection, whole_milliseconds
from mnist_ops.pipeline import Pipeline
from mnist_ops.steps.artifacts.parts import GZIP_LEVEL
from mnist_ops.wiring import Adapters

RECORDS, MILLION, ROUNDS = 200_000, 1_000_000, 3


@dataclass(frozen=True)
class Round:
    """Seconds of wall time, one after the other.

    Attributes:
        drain_s: draining the collection into a gzip file.
        index_s: draining what the selection's index serves into a gzip file.
        selection_s: draining the selection into a gzip file.
        step_s: the snapshot step.
        step_cpu_s: CPU seconds of the process in it.
    """

    drain_s: float
    index_s: float
    selection_s: float
    step_s: float
    step_cpu_s: float


def one_round(adapters: Adapters, collection: Collection[RawBSONDocument], scratch: Path) -> Round:
    """Measure each once."""
    now = whole_milliseconds(datetime.now(UTC))
    selection = Selection(at=now, until=now)
    pipeline = selection_pipeline(selection, adapters.settings.fields)
    drain_s, index_s, selection_s = (
        timed(lambda batches=batches: _drain(batches(), scratch), time.perf_counter)
        for batches in (
            lambda: collection.find_raw_batches({}),
            lambda: collection.find_raw_batches(pipeline[0]["$match"]),
            lambda: collection.aggregate_raw_batches(pipeline),
        )
    )
    cpu_before = time.process_time()
    step_s = timed(lambda: take(adapters, selection), time.perf_counter)
    return Round(drain_s, index_s, selection_s, step_s, time.process_time() - cpu_before)


def _drain(batches: Iterable[object], scratch: Path) -> None:
    with (
        (scratch / "drained.bson.gz").open("wb") as file,
        gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as stream,
    ):
        for batch in batches:
            stream.write(batch)  # type: ignore[arg-type]  # bytes, whatever the annotation says


def take(adapters: Adapters, selection: Selection) -> str:
    """Take a snapshot of a run of its own; returns the manifest's URI."""
    return Pipeline(adapters).snapshot(Generation(f"bench/{secrets.token_hex(4)}"), selection)


def process(folder: Path, database: str) -> Measurement:
    """`mnist-ops steps snapshot`, from outside."""
    variables = {"MNIST_OPS_LOCAL_DIR": str(folder), "MNIST_OPS_MONGO_DATABASE": database}
    return measure([sys.executable, "-m", "mnist_ops", "steps", "snapshot"], os.environ | variables)


def report(rounds: list[Round], records: int) -> str:
    """The figures as Markdown: medians, and the ratios within a round."""
    columns = {
        "`find_raw_batches({})` into a gzip file": [each.drain_s for each in rounds],
        "`find_raw_batches` through the selection's index into a gzip file": [r.index_s for r in rounds],
        "`aggregate_raw_batches` of the selection into a gzip file": [r.selection_s for r in rounds],
        "the snapshot step": [each.step_s for each in rounds],
    }
    lines = ["| what | seconds | records/s | the step's rate against it |", "|---|---|---|---|"]
    for what, seconds in columns.items():
        median_s = statistics.median(seconds)
        ratios = [one / each.step_s for one, each in zip(seconds, rounds, strict=True)]
        share = f"{statistics.median(ratios):.0%} ({min(ratios):.0%} to {max(ratios):.0%})"
        lines.append(f"| {what} | {median_s:.2f} | {records / median_s:,.0f} | {share} |")
    cpu_us = statistics.median(each.step_cpu_s for each in rounds) / records * 1e6
    return "\n".join([*lines, "", f"The step takes {cpu_us:.1f} microseconds of CPU a record."])


def section(*, million: bool) -> list[str]:
    """Set up and measure; the figures as a section of the page."""
    with stores() as folder:
        adapters = adapters_of(folder, "some")
        store_large_records(adapters, RECORDS)
        collection = client_of(folder)["some"][adapters.settings.mongo_collection]
        rounds = [one_round(adapters, collection, folder) for _ in range(ROUNDS)]  # type: ignore[arg-type]
        lines = [f"## Snapshot of {RECORDS:,} records of 400 bytes", "", report(rounds, RECORDS), ""]
        if million:
            peaks = [process(folder, "some").peak_bytes]
            store_large_records(adapters_of(folder, "many"), MILLION)
            peaks.append(process(folder, "many").peak_bytes)
            some, many = (f"{peak / 1e6:.0f} MB" for peak in peaks)
            whole = "Peak memory of `mnist-ops steps snapshot`"
            lines += [f"{whole}: {some} at {RECORDS:,} records, {many} at {MILLION:,}.", ""]
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--million", action="store_true", help="also the memory over 1,000,000 records")
    print("\n".join([machine(), "", *section(million=parser.parse_args().million)]))


if __name__ == "__main__":
    main()
