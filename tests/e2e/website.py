"""What a website leaves in MongoDB: records of digits, most without a label, some of them bad."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.reasons import Reason
from mnist_ops.local import sample_digits

Record = Mapping[str, object]

LABELLED = 320
HOURS = 24
PER_WINDOW = 12  # waiting records of a day that is backfilled
TODAY = 90  # waiting records of today: two parts
BACKFILLED = (4, 3, 2)  # days before today, oldest first
YESTERDAY = 1

LATE, LAST, UNDATED = "late", "last", "undated"
# The records that must fail, and why.
BAD = {
    "no-such-image": Reason.NOT_FOUND,
    "no-picture": Reason.NOT_AN_IMAGE,
    "no-url": Reason.INVALID_URL,
    UNDATED: Reason.BAD_CREATED_AT,
}


def midnight_before(moment: datetime) -> datetime:
    """The beginning of a moment's day (UTC)."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


@dataclass(frozen=True)
class Website:
    """Makes records, and the images that they refer to.

    Attributes:
        url: where the images are served.
        folder: what is served there.
        now: the newest creation time (UTC).
    """

    url: str
    folder: Path
    now: datetime

    @property
    def midnight(self) -> datetime:
        """The beginning of today (UTC)."""
        return midnight_before(self.now)

    def window(self, days_ago: int) -> tuple[datetime, datetime]:
        """A day's data interval."""
        since = self.midnight - timedelta(days=days_ago)
        return since, since + timedelta(days=1)

    def labelled(self) -> list[Record]:
        """Records that a human has labelled."""
        _, truth = sample_digits.load("train")
        return [
            {
                "_id": f"labelled-{number:03d}",
                "image_url": self._image("train", number),
                "created_at": self.midnight - timedelta(hours=number % 100),
                "label": DIGITS.name(int(truth[number])),
                "camera": {"shelf": number},
            }
            for number in range(LABELLED)
        ]

    def waiting(self) -> list[Record]:
        """Good records that wait: of the days to backfill, of yesterday's hours, and of today."""
        ages = {
            f"day-{day}-{number:02d}": self.window(day)[0] + timedelta(hours=2 * number)
            for day in BACKFILLED
            for number in range(PER_WINDOW)
        }
        yesterday, midnight = self.window(YESTERDAY)
        ages |= {f"hour-{hour:02d}": yesterday + timedelta(hours=hour, minutes=30) for hour in range(HOURS)}
        share = (self.now - midnight) / TODAY
        ages |= {f"today-{number:02d}": midnight + share * number for number in range(TODAY)}
        return [self._waiting(name, number, at) for number, (name, at) in enumerate(ages.items())]

    def bad(self) -> list[Record]:
        """Records that cannot be classified, one of each kind."""
        (self.folder / "no-picture.png").write_text("This is no picture.\n")
        earlier = self.window(BACKFILLED[1])[0] + timedelta(hours=1)
        today = self.midnight
        return [
            {"_id": "no-such-image", "image_url": f"{self.url}/no-such-image.png", "created_at": earlier},
            {"_id": "no-picture", "image_url": f"{self.url}/no-picture.png", "created_at": today},
            {"_id": "no-url", "created_at": today},
            {"_id": UNDATED, "image_url": self._image("test", 1_000)},
        ]

    def of_day(self, days_ago: int, count: int) -> list[Record]:
        """Good records of one day that wait, one each second; several of them have the same image."""
        since = self.window(days_ago)[0]
        return [
            self._waiting(f"of-day-{days_ago}-{number:03d}", number % 10, since + timedelta(seconds=number))
            for number in range(count)
        ]

    def late(self) -> Record:
        """A record that arrives after the window of its creation time was done."""
        return self._waiting(LATE, 1_001, self.window(BACKFILLED[1])[0] + timedelta(hours=3))

    def last(self) -> Record:
        """A record of today that arrives when all others are done."""
        return self._waiting(LAST, 1_002, self.midnight)

    def _waiting(self, name: str, number: int, created_at: datetime) -> Record:
        whole = created_at.replace(microsecond=created_at.microsecond // 1000 * 1000)
        return {"_id": name, "image_url": self._image("test", number), "created_at": whole}

    def _image(self, split: str, number: int) -> str:
        path = self.folder / split / f"{number}.png"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(sample_digits.png(sample_digits.load(split)[0][number]))
        return f"{self.url}/{split}/{number}.png"


def names(prefix: str, numbers: range) -> Iterator[str]:
    """The ids of records: their prefix, and two digits."""
    return (f"{prefix}-{number:02d}" for number in numbers)
