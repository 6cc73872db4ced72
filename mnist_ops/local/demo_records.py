"""The demo's data: sample digits as files, and records that refer to them."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.reasons import Reason
from mnist_ops.local import sample_digits

LABELLED = 6_000
UNLABELLED = 1_488
DAYS = 5

# The URLs of the records that must fail, and the reason that they must end with; two records of each.
EXPECTED_FAILURES: Mapping[str, Reason] = {
    "{images}/missing/nowhere.png": Reason.NOT_FOUND,
    "{images}/broken/text.png": Reason.NOT_AN_IMAGE,
    "{images}/broken/truncated.png": Reason.UNREADABLE_IMAGE,
    "{images}/broken/bomb.png": Reason.TOO_MANY_PIXELS,
    "http://10.0.0.1/digit.png": Reason.BLOCKED_ADDRESS,
    "": Reason.INVALID_URL,
}
COPIES = 2


@dataclass(frozen=True, slots=True)
class DemoRecords:
    """Records for the demo, and their expected outcomes.

    Attributes:
        labelled: with a human label.
        waiting: without one, some of which must fail.
        truth: the class of every waiting record that must be predicted, by its `_id`.
        failures: the reason of every waiting record that must fail, by its `_id`.
    """

    labelled: Sequence[Mapping[str, object]]
    waiting: Sequence[Mapping[str, object]]
    truth: Mapping[str, int]
    failures: Mapping[str, Reason]


def write_images(folder: Path) -> None:
    """Write the sample digits as PNG files, and a few that are broken, for the image server."""
    from PIL import Image  # noqa: PLC0415 - only where images are written

    for split, count in (("train", LABELLED), ("test", UNLABELLED)):
        images, _ = sample_digits.load(split)
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images[:count]):
            (folder / split / f"{number:05d}.png").write_bytes(sample_digits.png(image))
    broken = folder / "broken"
    broken.mkdir(exist_ok=True)
    digit = (folder / "test" / "00000.png").read_bytes()
    (broken / "text.png").write_text("This is no picture.\n")
    (broken / "truncated.png").write_bytes(digit[: len(digit) // 2])
    Image.new("L", (8_000, 5_000)).save(broken / "bomb.png")  # many pixels in few bytes


def make_records(images_url: str, now: datetime) -> DemoRecords:
    """Make the demo's records, created over the last five days up to now (UTC).

    Args:
        images_url: where the files of `write_images` are served.
        now: the newest creation time.
    """
    random_ = random.Random(28)  # noqa: S311 (the same records in every demo)
    _, known = sample_digits.load("train")
    _, hidden = sample_digits.load("test")
    labelled = [
        {
            "_id": f"labelled-{number:05d}",
            "image_url": f"{images_url}/train/{number:05d}.png",
            "created_at": _moment(number, now, random_),
            "label": DIGITS.name(int(known[number])),
        }
        for number in range(LABELLED)
    ]
    urls = {f"waiting-{number:05d}": f"{images_url}/test/{number:05d}.png" for number in range(UNLABELLED)}
    failures = {}
    for kind, (url, reason) in enumerate(EXPECTED_FAILURES.items()):
        for copy in range(COPIES):
            record_id = f"failing-{kind}-{copy}"
            urls[record_id] = url.format(images=images_url)
            failures[record_id] = reason
    waiting: list[Mapping[str, object]] = []
    for number, (record_id, url) in enumerate(urls.items()):
        record: dict[str, object] = {"_id": record_id, "created_at": _moment(number, now, random_)}
        waiting.append(record | {"image_url": url} if url else record)
    truth = {f"waiting-{number:05d}": int(hidden[number]) for number in range(UNLABELLED)}
    return DemoRecords(labelled, waiting, truth, failures)


def _moment(number: int, now: datetime, random_: random.Random) -> datetime:
    """A time on one of the last days: today between midnight and now, else any time of the day."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    days_ago = number % DAYS
    if days_ago == 0:
        return midnight + (now - midnight) * random_.random()
    return midnight - timedelta(days=days_ago) + timedelta(seconds=random_.randrange(86_400))
