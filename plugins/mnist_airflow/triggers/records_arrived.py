"""The event that records have arrived, for an `AssetWatcher`.

It runs in the triggerer's only event loop, beside all other triggers. So it imports what it needs when it
runs, and never blocks.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

if TYPE_CHECKING:
    from mnist_ops.domain.arrivals import RecordChanges
    from mnist_ops.domain.connections import Connection
    from mnist_ops.settings import Settings
    from mnist_ops.steps.watch import Watch

_log = logging.getLogger(__name__)

# After this time the triggerer has written an event into Airflow's database; it does so every second. Only
# then the resume token is saved: if the triggerer is killed before, the event comes again.
_WRITTEN_AFTER_S = 5.0
_WRONG_SETTING_S = 60.0


class RecordsArrivedTrigger(BaseEventTrigger):
    """Fires when records arrive or their image URL is edited: once for a burst, at most once an interval.

    It follows MongoDB's change stream. Its resume token is kept in the asset's state store, so what happens
    while the triggerer is down is seen afterwards. Where the server has no change stream, or has lost the
    token's place in it, queries take its place. See docs/events.md.

    Args:
        mongo_conn_id: the connection to MongoDB.
        database: the records' database; by default `MNIST_OPS_MONGO_DATABASE`.
        collection: the records' collection; by default `MNIST_OPS_MONGO_COLLECTION`.
        after_runs_of: a DAG; while a run of it that this trigger has woken is unfinished, it does not fire.
        debounce_s: how long to wait for further changes after the first, in seconds.
        interval_s: the least time between two events, in seconds; by default `MNIST_OPS_WATCH_INTERVAL_S`.
    """

    def __init__(
        self,
        *,
        mongo_conn_id: str = "mongo_default",
        database: str | None = None,
        collection: str | None = None,
        after_runs_of: str | None = None,
        debounce_s: float = 0.5,
        interval_s: float | None = None,
    ) -> None:
        super().__init__()
        self.mongo_conn_id = mongo_conn_id
        self.database = database
        self.collection = collection
        self.after_runs_of = after_runs_of
        self.debounce_s = debounce_s
        self.interval_s = interval_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its arguments, from which the triggerer makes this trigger again."""
        names = (
            "mongo_conn_id",
            "database",
            "collection",
            "after_runs_of",
            "debounce_s",
            "interval_s",
        )
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            name: getattr(self, name) for name in names
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """An event whenever a run is due; never ends by itself, and no error of MongoDB ends it."""
        import asyncio
        from contextlib import aclosing

        # In another thread: it takes a while, and all other triggers would wait.
        await asyncio.to_thread(_import_client)
        async with aclosing(self._watch(await self._settings()).wakes()) as wakes:
            async for wake in wakes:
                yield TriggerEvent(wake.document())
                await asyncio.sleep(_WRITTEN_AFTER_S)

    def _watch(self, settings: "Settings") -> "Watch":
        import asyncio
        import time

        from mnist_airflow.triggers.asset_tokens import AssetTokens
        from mnist_ops.pipeline import utc_now
        from mnist_ops.steps.watch import Clock, Pace, Watch

        interval_s = settings.watch_interval_s if self.interval_s is None else self.interval_s
        return Watch(
            connect=lambda: self._connected(settings),
            tokens=AssetTokens(self.asset_state_store),
            pace=Pace(self.debounce_s, interval_s, after_runs_of=self.after_runs_of),
            clock=Clock(utc_now, time.monotonic, asyncio.sleep),
        )

    async def _settings(self) -> "Settings":
        """The settings of the environment, with what was given to this trigger on top.

        A wrong setting is logged again and again. If it ended the trigger, Airflow would start it again every
        second.
        """
        import asyncio

        from pydantic import ValidationError

        from mnist_ops.settings import Settings
        from mnist_ops.validation import problems_of

        given = {"mongo_database": self.database, "mongo_collection": self.collection}
        while True:
            try:
                return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
            except ValidationError as error:
                _log.error("records are not watched: %s", "; ".join(map(str, problems_of(error))))
            await asyncio.sleep(_WRONG_SETTING_S)

    @asynccontextmanager
    async def _connected(self, settings: "Settings") -> AsyncIterator["RecordChanges"]:
        from mnist_ops.adapters.mongo.change_stream import connected_changes

        where = await self._connection()
        place = (settings.mongo_database, settings.mongo_collection)
        async with connected_changes(where, place, settings.fields, self.debounce_s) as changes:
            yield changes

    async def _connection(self) -> "Connection":
        """Airflow's connection.

        Raises:
            Transient: Airflow does not find it, or denies it, or its API server does not answer.
        """
        from airflow.sdk import BaseHook

        from mnist_ops.domain.connections import Connection
        from mnist_ops.domain.errors import Transient

        try:
            found = await BaseHook.aget_connection(self.mongo_conn_id)
        except Exception as error:
            # Backends of secrets raise errors of their own. If one ended the trigger, it would loop.
            raise Transient(f"{self.mongo_conn_id}: Airflow did not find this connection: {error}") from error
        return Connection(
            host=found.host,
            port=found.port,
            schema=found.schema,
            login=found.login,
            password=found.password,
            extra=found.extra_dejson,
            name=self.mongo_conn_id,
        )


def _import_client() -> None:
    import mnist_ops.adapters.mongo.change_stream
    import mnist_ops.pipeline  # noqa: F401 (as above: it is found in memory afterwards)
