"""Cron expressions, in UTC: when a schedule is due.

It reads what `CronDataIntervalTimetable` of Airflow reads, except `L`, `#`, `?`, and seconds.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from mnist_ops.domain.errors import UsageError

_PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# The five fields: the name, the lowest and the highest value, and the names of values from the lowest on.
_FIELDS: tuple[tuple[str, int, int, Sequence[str]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _WEEKDAYS),
)
_ITEM = re.compile(r"(\*|(?P<first>\w+)(-(?P<last>\w+))?)(/(?P<step>\d+))?")
# A leap day comes again after 8 years at the latest, as around 2100.
_LONGEST_GAP = timedelta(days=8 * 366)


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """A parsed cron expression.

    Attributes:
        expression: as it was written.
        minutes: 0 to 59, ascending.
        hours: 0 to 23, ascending.
        days: days of the month, 1 to 31.
        months: 1 to 12.
        weekdays: 0 to 6 from Sunday on.
        either_day: whether it is due on a day that is in only one of the two, `days` and `weekdays`.
    """

    expression: str
    minutes: Sequence[int]
    hours: Sequence[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def times(self, since: datetime) -> Iterator[datetime]:
        """The times at which it is due, from `since` (UTC, included) on, without end.

        Raises:
            UsageError: there is none within 8 years, as for 30 February.
        """
        midnight, latest = since.replace(hour=0, minute=0, second=0, microsecond=0), since
        while midnight - latest < _LONGEST_GAP:
            if self._due_on(midnight):
                for hour in self.hours:
                    for minute in self.minutes:
                        moment = datetime.combine(midnight, time(hour, minute), since.tzinfo)
                        if moment >= since:
                            latest = moment
                            yield moment
            midnight += timedelta(days=1)
        raise UsageError(f"schedule: {self.expression!r} is never due; correct the day and the month")

    def _due_on(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (of_month or of_week) if self.either_day else (of_month and of_week)


def parse_cron(expression: str) -> CronSchedule:
    """Read a cron expression of five fields, or one of @hourly to @yearly.

    Raises:
        UsageError: it is none; the message names the field.
    """
    fields = _PRESETS.get(expression.strip().lower(), expression).split()
    if len(fields) != len(_FIELDS):
        raise UsageError(
            f"schedule: {expression!r} is not understood; give five fields (minute, hour, day of the month, "
            f"month, day of the week), or one of {', '.join(_PRESETS)}"
        )
    minutes, hours, days, months, weekdays = (
        frozenset(value for item in text.split(",") for value in _values(item, number, expression))
        for number, text in enumerate(fields)
    )
    # Each of the two counts as restricted unless it has no effect, as `*` or, beside a `*`, the whole field.
    either_day = _restricted(fields[2], fields[4], len(days) == 31) and _restricted(
        fields[4], fields[2], len(weekdays) == 7
    )
    return CronSchedule(expression, sorted(minutes), sorted(hours), days, months, weekdays, either_day)


def _restricted(text: str, other: str, whole: bool) -> bool:
    return text != "*" and not (whole and "*" in other)


def _values(item: str, number: int, expression: str) -> list[int]:
    """The values of one item of a list: `*`, `5`, `mon`, `1-5`, each with or without a step."""
    name, lowest, highest, names = _FIELDS[number]
    match = _ITEM.fullmatch(item.lower())
    step = int(match["step"] or 1) if match else 0
    if match is None or step == 0:
        raise UsageError(f"schedule: {expression!r}: {item!r} is not understood as {name}")
    # The week has its Sunday at both ends: 0 and 7.
    last_value = 7 if names is _WEEKDAYS else highest
    first = _value(match["first"], names, lowest, lowest)
    one = match["first"] is not None and match["last"] is None and match["step"] is None
    last = first if one else _value(match["last"], names, lowest, highest)
    # Airflow takes a range such as 7-7 for the whole field, which nobody means.
    ascending = first <= last if match["last"] is None else first < last
    if not (lowest <= first and ascending and last <= last_value):
        raise UsageError(
            f"schedule: {expression!r}: {item!r} is not understood as {name}; give numbers from {lowest} to "
            f"{last_value}, and ranges that ascend"
        )
    return [value % 7 if names is _WEEKDAYS else value for value in range(first, last + 1, step)]


def _value(text: str | None, names: Sequence[str], lowest: int, absent: int) -> int:
    """A number, or a name as its number; -1 for neither."""
    if text is None:
        return absent
    if text in names:
        return lowest + names.index(text)
    return int(text) if text.isdecimal() else -1
