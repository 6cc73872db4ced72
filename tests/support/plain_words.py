"""The words that this project does not use, and what it says instead: `make check` runs it.

An engineer who is on call at night should meet the field's standard terms, one word for one thing. A rule
bans a pattern in the files that its globs name; identifiers count as words, whole or in part.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
ITSELF = ("tests/support/plain_words.py", "tests/unit/test_plain_words.py")
SKIPPED = ("*.lock", "*.xz", "*.png", "LICENSE", "docs/images/*", *ITSELF)

EVERYWHERE = ("*",)
FETCHING = (
    "mnist_ops/adapters/http/*",
    "mnist_ops/domain/fetch_policy.py",
    "docs/fetching.md",
    "tests/contract/adapters/http/*",
)
PICTURES = (
    "mnist_ops/vision/preprocessing/*",
    "docs/harmoniser.md",
    "benchmarks/harmoniser.py",
    "tests/support/digit_drawings.py",
    "tests/support/non_digits.py",
    "tests/unit/vision/preprocessing/*",
)
GARBAGE = (
    "mnist_ops/adapters/s3/*",
    "mnist_ops/domain/retention.py",
    "mnist_ops/steps/collect_garbage.py",
    "docs/retention-and-cost.md",
    "tests/*garbage*",
    "tests/*retention*",
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A word that is not used.

    Attributes:
        pattern: a regular expression; a word in it also matches as a part of an identifier.
        instead: what to say.
        files: globs of the files that it holds for.
        case: whether upper and lower case differ.
    """

    pattern: str
    instead: str
    files: tuple[str, ...] = EVERYWHERE
    case: bool = False

    @property
    def compiled(self) -> re.Pattern[str]:
        """The pattern between word boundaries, where an underscore is one."""
        flags = 0 if self.case else re.IGNORECASE
        return re.compile(rf"(?<![A-Za-z])(?:{self.pattern})(?![A-Za-z])", flags)


RULES = (
    # Fetching
    Rule("errands?", "FetchTask, task"),
    Rule("troubles?|TroubleOf", "RequestFailure, failure"),
    Rule("hopeless", "retries_exhausted, permanent"),
    Rule("Run", "FetchScheduler", FETCHING[:1], case=True),
    Rule("windows?", "ReadAheadBuffer, buffer", FETCHING),
    Rule("places?", "slots", FETCHING),
    Rule("rests?|resting|rested", "backoff, waits for its next attempt", FETCHING),
    Rule("dead|death", "circuit_open, open circuit", FETCHING),
    Rule("patience", "max_retry_after_s", FETCHING),
    # Pictures
    Rule("dust", "connected components", PICTURES),
    Rule("pieces?", "components", PICTURES),
    Rule("paper", "background", PICTURES),
    Rule("lift(s|ed)?", "subtract_background", PICTURES),
    Rule("looks", "passes", PICTURES),
    Rule("scraps?", "minimum share", PICTURES),
    Rule("slants?", "has_gradient", PICTURES),
    # Training
    Rule("Descent", "WeightUpdater", ("*.py",), case=True),
    Rule("Watcher", "TrainingCallback", ("*.py",), case=True),
    Rule(
        "watchers?|watching", "callbacks", ("mnist_ops/vision/*", "mnist_ops/steps/*", "tests/unit/vision/*")
    ),
    Rule("merits?", "selection_key"),
    Rule("laps?", "Throughput"),
    Rule("of_its_own", "isolated_torch_state"),
    Rule("refusals?", "validation_error, refusing"),
    Rule("class Written|Written\\(|: Written", "RawConfig", case=True),
    # Decisions and counts
    Rule("verdicts?", "Predictions, GateResult, Disposition, result"),
    Rule("judges?|judged|judging|judgement", "predict, decide"),
    Rule("Heaps?", "ObjectTotals", ("*.py",), case=True),
    Rule("sweep(s|er|ers|ing)?|swept", "gc, GcResult, garbage collection", GARBAGE),
    Rule("noted", "recorded"),
    Rule("def tell|tell\\(|tell=|tell_progress", "report_progress"),
    # Plain sentences
    Rule("mends?|mended|mending", "fix"),
    Rule("anew", "again"),
    Rule("so many", "that many"),
    Rule("stands?|stood", "is"),
    Rule("lies|lie|lying", "is"),
    Rule("it is they that", "(name them)"),
    Rule("whatever (?:became|becomes) of", "regardless of the outcome of"),
    Rule("r[au]ns? dry|running dry", "exhausted"),
)


def tracked_files() -> list[str]:
    """Return the text files of the project, named from its root."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [
        name
        for name in listing.stdout.splitlines()
        if not any(fnmatch(name, glob) for glob in SKIPPED) and (ROOT / name).is_file()
    ]


def found_in(name: str, text: str) -> list[str]:
    """Return a line for each word in a file that a rule bans."""
    rules = [(rule, rule.compiled) for rule in RULES if any(fnmatch(name, glob) for glob in rule.files)]
    return [
        f"{name}:{number}: {match[0]!r}, say: {rule.instead}"
        for number, line in enumerate(text.splitlines(), 1)
        for rule, pattern in rules
        for match in pattern.finditer(line)
    ]


def main(paths: list[str]) -> int:
    """Check the files below some paths, or all; print what was found and return the exit code."""
    names = [name for name in tracked_files() if not paths or name.startswith(tuple(paths))]
    lines = [line for name in names for line in found_in(name, (ROOT / name).read_text(encoding="utf-8"))]
    print("\n".join(lines) or f"{len(names)} files: plain words", file=sys.stderr if lines else sys.stdout)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
