"""Cron expressions, in UTC: when a schedule is due. They are read by croniter, as Airflow does it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from croniter import CroniterBadCronError, CroniterBadDateError, croniter

from mnist_ops.domain.errors import UsageError

# Airflow's presets that croniter does not know.
_PRESETS = {"@quarterly": "0 0 1 */3 *"}
_EXAMPLES = 'five fields, such as "0 6 * * 1-5", or @hourly, @daily, @weekly, @monthly, @quarterly, @yearly'


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """A cron expression. Implements `Schedule`.

    Attributes:
        expression: as it was written.

    Raises:
        UsageError: it is none; the message says what croniter found.
    """

    expression: str

    def __post_init__(self) -> None:
        try:
            croniter(self._expanded)
        except (CroniterBadCronError, ValueError) as error:
            raise UsageError(f"schedule: {self.expression!r}: {error}; give {_EXAMPLES}") from error

    @property
    def _expanded(self) -> str:
        return _PRESETS.get(self.expression.strip().lower(), self.expression)

    def times(self, since: datetime) -> Iterator[datetime]:
        """The times at which it is due, from `since` (UTC, included) on, without end.

        Raises:
            UsageError: it is never due, as on 30 February.
        """
        due = croniter(self._expanded, start_time=since - timedelta(seconds=1))
        while True:
            try:
                moment = due.get_next(datetime)
            except CroniterBadDateError as error:
                raise UsageError(
                    f"schedule: {self.expression!r} is never due; correct the day and the month"
                ) from error
            if moment >= since:
                yield moment
