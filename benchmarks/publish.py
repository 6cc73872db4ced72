"""The publish step beside the raw `bulk_write` of exactly the same updates.

    python -m benchmarks.publish

Two copies of 10,000 records in the embedded database, a prediction for each. In turn, in one process: the
updates, built beforehand, in unordered bulks of 1,000 with write concern majority, into one copy; and the
publish step, which reads the prediction shard and the part, builds the same updates, writes them and an
outcome shard, into the other.
"""

import gc
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pymongo import UpdateOne, WriteConcern

from benchmarks.measuring import machine
from benchmarks.setting import store_large_records
from benchmarks.snapshot import take
from benchmarks.stores import adapters_of, client_of, stores, timed
from mnist_ops.adapters.mongo.records import MongoRecords
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.records import Change, RecordHead, WriteReport
from mnist_ops.domain.selection import Selection, whole_milliseconds
from mnist_ops.pipeline import Pipeline, utc_now
from mnist_ops.steps.artifacts.objects import read_manifest
from mnist_ops.steps.artifacts.parts import read_part
from mnist_ops.steps.artifacts.shard_kinds import PREDICTIONS
from mnist_ops.steps.artifacts.shards import ShardHeader, ShardWriter
from mnist_ops.steps.publish import publish
from mnist_ops.wiring import Adapters

RECORDS, ROUNDS = 10_000, 3


class Recording(MongoRecords):
    """Records whose updates are kept instead of sent.

    Attributes:
        bulks: what would have been sent.
    """

    bulks: list[list[UpdateOne]]

    def apply(self, changes: Sequence[Change]) -> WriteReport:
        """Keep the updates."""
        self.bulks.append(self.updates(changes))
        return WriteReport(matched=len(changes))

    def heads(self, ids: Sequence[str]) -> Mapping[str, RecordHead]:
        """Nothing was written before."""
        return {}


@dataclass(frozen=True)
class Round:
    """Seconds of wall time and of this process's CPU, of the raw bulks and of the step."""

    raw_s: float
    raw_cpu_s: float
    step_s: float
    step_cpu_s: float


def predicted(adapters: Adapters) -> tuple[str, str]:
    """Take a snapshot and make up its predictions; returns the shard and the assessment."""
    manifest_uri = take(adapters, Selection(whole_milliseconds(datetime.now(UTC))))
    manifest = read_manifest(adapters.objects, manifest_uri)
    (part,) = manifest.parts
    with ShardWriter(PREDICTIONS) as shard:
        for number, document in enumerate(read_part(adapters.objects, part)):
            head, index = adapters.records.head(document), number % 10
            shard.add(
                {
                    "record_id": head.id_json,
                    "url": str(head.image_url),
                    "sha256": f"{number:064x}",
                    "probabilities": [0.91 if one == index else 0.01 for one in range(10)],
                    "index": index,
                    "confidence": 0.91,
                    "needs_review": False,
                }
            )
        header = ShardHeader(PREDICTIONS.name, manifest_uri, 0, shard.records, {}, {}, labels=DIGITS.names)
        uri = shard.store(adapters.objects, manifest.generation, header)
    return uri, Pipeline(adapters).assess(manifest_uri, [uri])


def one_round(folder: Path, number: int) -> Round:
    """Make two copies, and measure each way once; the ways take turns in being the first."""
    raw, step = (adapters_of(folder, f"publish_{number}_{name}") for name in ("raw", "step"))
    for adapters in (raw, step):
        store_large_records(adapters, RECORDS)
    uris = predicted(step)
    settings = step.settings
    copies = client_of(folder)
    recording = Recording(copies[settings.mongo_database][settings.mongo_collection], settings.fields)
    recording.bulks = []
    publish(*uris, records=recording, objects=step.objects, now=utc_now)
    collection = copies[raw.settings.mongo_database][settings.mongo_collection].with_options(
        write_concern=WriteConcern("majority")
    )

    def write_raw() -> None:
        for bulk in recording.bulks:
            if collection.bulk_write(bulk, ordered=False).matched_count != len(bulk):
                raise RuntimeError("the copies differ")

    def write_step() -> None:
        Pipeline(step).publish(*uris)

    # The prepared updates belong to the raw bulk writes: the step must not pay for collecting them.
    gc.collect()
    gc.freeze()
    seconds, cpu_s = {}, {}
    for write in (write_raw, write_step) if number % 2 else (write_step, write_raw):
        before = time.process_time()
        seconds[write] = timed(write, time.perf_counter)
        cpu_s[write] = time.process_time() - before
    return Round(seconds[write_raw], cpu_s[write_raw], seconds[write_step], cpu_s[write_step])


def report(rounds: list[Round], records: int) -> str:
    """The figures as Markdown: medians, and the ratio within a round."""
    lines = ["| what | seconds | records/s | CPU a record |", "|---|---|---|---|"]
    for what, seconds, cpu_s in (
        ("raw `bulk_write`", [r.raw_s for r in rounds], [r.raw_cpu_s for r in rounds]),
        ("the publish step", [r.step_s for r in rounds], [r.step_cpu_s for r in rounds]),
    ):
        median_s, cpu_us = statistics.median(seconds), statistics.median(cpu_s) / records * 1e6
        lines.append(f"| {what} | {median_s:.2f} | {records / median_s:,.0f} | {cpu_us:.0f} us |")
    ratios = [each.raw_s / each.step_s for each in rounds]
    own_us = statistics.median(each.step_cpu_s - each.raw_cpu_s for each in rounds) / records * 1e6
    return "\n".join(
        [
            *lines,
            "",
            (
                f"The step has {statistics.median(ratios):.0%} of the raw rate ({min(ratios):.0%} to "
                f"{max(ratios):.0%}); beyond the driver's, it takes {own_us:.0f} us of CPU a record."
            ),
        ]
    )


def section() -> list[str]:
    """Set up and measure; the figures as a section of the page."""
    with stores() as folder:
        rounds = [one_round(folder, number) for number in range(ROUNDS)]
    return [f"## Publishing {RECORDS:,} predictions", "", report(rounds, RECORDS), ""]


if __name__ == "__main__":
    print("\n".join([machine(), "", *section()]))
