"""Measure the pipeline beside its peers, in one run on this machine: `make bench`.

Brings up MongoDB's protocol, S3 and nginx in a temporary folder, stores records whose images are the sample's
digits, and runs in turn, each as a fresh process measured from outside:

    library_steps     snapshot, fetch and classify, to prediction shards in S3
    sensible_script   `requests` in 16 threads, torch in batches of 256, results to a file
    naive_loop        one record after the other
    daft_pipeline     the same in Daft, where it is installed

and beside them what the cores can do at most; then ten times the records, a snapshot beside a bare cursor,
and publishing beside a bare `bulk_write`. With `--write` the tables go into docs/benchmarks.md.
"""

import argparse
import importlib.util
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import publish, snapshot
from benchmarks.contestants.place import Place
from benchmarks.measuring import Measurement, machine, measure, median_ratio
from benchmarks.setting import Setting, setting, store_records
from mnist_ops.vision.inference.bundle import WEIGHTS

RECORDS, NAIVE_RECORDS, MANY_RECORDS, ROUNDS = 10_000, 2_000, 100_000, 3
FEW_RECORDS = 500  # to warm up; the steps take all there are
DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"

Rounds = dict[str, list[Measurement]]

STEPS, SENSIBLE, APART, NAIVE, DAFT = "steps", "sensible", "apart", "naive", "daft"
NAMES = {
    STEPS: "MNIST Ops: the library's steps",
    SENSIBLE: "the sensible script",
    NAIVE: "the naive loop",
    DAFT: "Daft",
}
MODULES = {
    STEPS: ["library_steps"],
    SENSIBLE: ["sensible_script"],
    APART: ["sensible_script", "apart"],
    NAIVE: ["naive_loop"],
    DAFT: ["daft_pipeline"],
    "limits": ["limits"],
}


def compete(here: Setting) -> Rounds:
    """Everybody on the same records, in rounds."""
    store_records(here.adapters("bench"), here.images_url, RECORDS)
    names = [STEPS, SENSIBLE, APART, NAIVE, *([DAFT] if importlib.util.find_spec("daft") else []), "limits"]
    arguments = {name: [str(here.folder / "pictures")] if name == "limits" else [] for name in names}
    for name in names:
        print(f"warming up: {name}", file=sys.stderr, flush=True)
        _run(here, "bench", [*MODULES[name], *arguments[name]], FEW_RECORDS)
    rounds: Rounds = {name: [] for name in names}
    for number in range(ROUNDS):
        for name in names:
            print(f"round {number + 1} of {ROUNDS}: {name}", file=sys.stderr, flush=True)
            limit = NAIVE_RECORDS if name == NAIVE else RECORDS
            rounds[name].append(_run(here, "bench", [*MODULES[name], *arguments[name]], limit))
    return rounds


def grow(here: Setting) -> Rounds:
    """Ten times the records beside the plain number of them."""
    store_records(here.adapters("bench_many"), here.images_url, MANY_RECORDS)
    rounds: Rounds = {"few": [], "many": []}
    print(f"warming up: {MANY_RECORDS:,} records", file=sys.stderr, flush=True)
    _run(here, "bench_many", MODULES[STEPS], MANY_RECORDS)
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS}: {MANY_RECORDS:,} records", file=sys.stderr, flush=True)
        rounds["few"].append(_run(here, "bench", MODULES[STEPS], RECORDS))
        rounds["many"].append(_run(here, "bench_many", MODULES[STEPS], MANY_RECORDS))
    return rounds


def _run(here: Setting, database: str, module: Sequence[str], limit: int) -> Measurement:
    place = Place(
        mongo_port=here.mongo_port,
        database=database,
        weights=str(here.bundle / WEIGHTS),
        output=str(here.folder / "results.jsonl"),
        limit=limit,
    )
    name, *arguments = module
    command = [sys.executable, "-m", f"benchmarks.contestants.{name}", *arguments]
    return measure(command, here.environment(database) | place.environment())


def _rates(runs: Sequence[Measurement], stage: str, records: int = RECORDS) -> list[float]:
    return [records / run.stages[stage] for run in runs]


def whole(rounds: Rounds) -> list[str]:
    """The table from records to results."""
    lines = [
        "## From records to results, without writing back",
        "",
        (
            "| who | whole process, records/s | ours to it | without imports, records/s | ours to it "
            "| CPU a record | peak memory |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    mine, mine_whole = _rates(rounds[STEPS], "all"), [RECORDS / run.wall_s for run in rounds[STEPS]]
    for name, title in NAMES.items():
        if name not in rounds:
            continue
        records = NAIVE_RECORDS if name == NAIVE else RECORDS
        rates, whole_rates = (
            _rates(rounds[name], "all", records),
            [records / run.wall_s for run in rounds[name]],
        )
        cpu_ms = statistics.median(run.cpu_s / records * 1000 for run in rounds[name])
        peak = statistics.median(run.peak_bytes for run in rounds[name]) / 1e6
        ratios = (
            ("", "") if name == STEPS else (median_ratio(mine_whole, whole_rates), median_ratio(mine, rates))
        )
        lines.append(
            f"| {title} | {statistics.median(whole_rates):,.0f} | {ratios[0]} "
            f"| {statistics.median(rates):,.0f} | {ratios[1]} | {cpu_ms:.2f} ms | {peak:.0f} MB |"
        )
    return [*lines, ""]


def stages(rounds: Rounds) -> list[str]:
    """The table of the stages beside the script's, and beside what the cores can do."""
    decode, network = (statistics.median(_rates(rounds["limits"], name)) for name in ("decode", "network"))
    pillow = statistics.median(_rates(rounds["limits"], "decode_pillow"))
    limits = [
        1 / (run.stages["decode"] / RECORDS + run.stages["network"] / RECORDS) for run in rounds["limits"]
    ]
    lines = [
        "## Stage by stage",
        "",
        "| stage | ours, images/s | the sensible script, images/s | times as fast |",
        "|---|---|---|---|",
    ]
    for stage, title in (("fetch", "fetch, with hashes and Parquet"), ("classify", "decode and classify")):
        mine, theirs = _rates(rounds[STEPS], stage), _rates(rounds[APART], stage)
        lines.append(
            f"| {title} | {statistics.median(mine):,.0f} | {statistics.median(theirs):,.0f} "
            f"| {median_ratio(mine, theirs)} |"
        )
    core, step = (
        [mine / limit for mine, limit in zip(rates, limits, strict=True)]
        for rates in (_rates(rounds["limits"], "decode_and_predict"), _rates(rounds[STEPS], "classify"))
    )
    return [
        *lines,
        "",
        (
            f"The cores' own limits: decoding alone {decode:,.0f} images/s in as many processes as cores "
            f"(Pillow: {pillow:,.0f}), the network alone {network:,.0f} in ONNX Runtime on all cores, one "
            f"after the other {statistics.median(limits):,.0f}. Decoding and classifying as the step does "
            f"it, with scores and probabilities, reaches {_share(core)} of that; the whole step, from shard "
            f"to shard in S3 and with loading and checking the bundle, {_share(step)}."
        ),
        "",
    ]


def _share(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.0%} ({min(ratios):.0%} to {max(ratios):.0%})"


def growth(rounds: Rounds) -> list[str]:
    """How time and memory grow."""
    few, many = rounds["few"], rounds["many"]
    each = [
        b.stages["all"] / MANY_RECORDS / (a.stages["all"] / RECORDS) for a, b in zip(few, many, strict=True)
    ]
    peak = statistics.median(run.peak_bytes for run in many)
    memory = [b.peak_bytes / a.peak_bytes for a, b in zip(few, many, strict=True)]
    return [
        f"## {MANY_RECORDS:,} records",
        "",
        (
            f"{statistics.median(_rates(many, 'all', MANY_RECORDS)):,.0f} records/s: a record takes "
            f"{statistics.median(each):.2f} times as long as with {RECORDS:,} ({min(each):.2f} to "
            f"{max(each):.2f}), memory peaks at {peak / 1e6:.0f} MB, {statistics.median(memory):.2f} times "
            "as high."
        ),
        "",
    ]


def main() -> None:
    """Set up, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--few", action="store_true", help="only the comparison of the whole road")
    parser.add_argument("--million", action="store_true", help="also a snapshot of 1,000,000 records")
    arguments = parser.parse_args()
    data_dir = os.environ.get("MNIST_OPS_DATA_DIR")
    with setting(RECORDS if arguments.few else MANY_RECORDS, Path(data_dir) if data_dir else None) as here:
        rounds = compete(here)
        lines = [
            "# Benchmarks",
            "",
            (
                f"`make bench` on {machine()}. {RECORDS:,} records, {RECORDS:,} PNG files behind nginx "
                f"({NAIVE_RECORDS:,} for the naive loop); medians of {ROUNDS} rounds taken in turn in one "
                "run, after one run each to warm up. A whole process includes what it imports, as a task or "
                "a script does, compiled by an earlier run; stages never do. Everybody closes the database "
                "client once the records are read. Database, object store and nginx share the cores."
            ),
            "",
            *whole(rounds),
            *stages(rounds),
            *([] if arguments.few else growth(grow(here))),
        ]
    if not arguments.few:
        lines += [*snapshot.section(million=arguments.million), *publish.section()]
    table = "\n".join(lines)
    print(table)
    if arguments.write:
        DOCUMENT.write_text(table)


if __name__ == "__main__":
    main()
