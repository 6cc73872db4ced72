"""The trigger of arriving records as the triggerer runs it, on SecantusDB."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest
from airflow.sdk import Asset, BaseHook
from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied
from airflow.sdk.execution_time.context import AssetStateStoreAccessors

from mnist_airflow.triggers import records_arrived
from mnist_airflow.triggers.records_arrived import RecordsArrivedTrigger

TIMEOUT_S = 20.0


class StateStore:
    """The state store of an asset, without Airflow's API server.

    Attributes:
        values: what it holds.
        written: that it holds something: the records are watched.
    """

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.written = asyncio.Event()

    async def aget(self, key: str, default: object = None) -> object:
        return self.values.get(key, default)

    async def aset(self, key: str, value: object) -> None:
        self.values[key] = value
        self.written.set()

    async def adelete(self, key: str) -> None:
        self.values.pop(key, None)


@pytest.fixture
def collection(deployment, request) -> Iterator[Any]:
    """Records of a test's own."""
    with deployment.collection(f"arrivals-{request.node.name}"[:60]) as found:
        yield found


def fired(trigger: RecordsArrivedTrigger, collection: Any, store: StateStore) -> Any:
    """Insert a record once the trigger watches; its first event."""

    async def first() -> Any:
        async with aclosing(trigger.run()) as events:
            event = asyncio.create_task(anext(events))
            await store.written.wait()
            await asyncio.to_thread(collection.insert_one, {"_id": 1, "image_url": "http://images/1.png"})
            return await event

    return asyncio.run(asyncio.wait_for(first(), TIMEOUT_S))


def test_an_insert_fires_an_event_that_says_why(collection) -> None:
    """The event of the asset shows it."""
    trigger, store = RecordsArrivedTrigger(debounce_s=0.1), StateStore()
    trigger.asset_state_store = store
    event = fired(trigger, collection, store)
    assert event.payload == {"cause": "records changed", "changes": 1}


def test_the_resume_token_is_kept_after_the_event_was_written(collection, monkeypatch) -> None:
    """A triggerer that is killed before would not fire it again."""
    monkeypatch.setattr(records_arrived, "_WRITTEN_AFTER_S", 0.3)
    trigger, store = RecordsArrivedTrigger(debounce_s=0.1, interval_s=0.0), StateStore()
    trigger.asset_state_store = store
    tokens: list[object] = []

    async def two_events() -> None:
        async with aclosing(trigger.run()) as events:
            following = asyncio.create_task(anext(events))
            await store.written.wait()
            for number in range(2):
                await asyncio.to_thread(collection.insert_one, {"_id": number})
                await following
                tokens.append(store.values["resume_token"])
                following = asyncio.create_task(anext(events))
                await asyncio.sleep(0.1)
                tokens.append(store.values["resume_token"])
                await asyncio.sleep(0.6)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    asyncio.run(asyncio.wait_for(two_events(), TIMEOUT_S))
    before_any, before_first, before_second, soon_after_second = tokens
    assert before_any == before_first
    assert before_second == soon_after_second
    assert before_first != before_second


def said(trigger: RecordsArrivedTrigger, line: str, caplog: pytest.LogCaptureFixture) -> None:
    """Wait until the trigger has logged a line; it has not ended by then."""

    async def watch() -> None:
        async with aclosing(trigger.run()) as events:
            following = asyncio.create_task(anext(events))
            while line not in caplog.text:
                assert not following.done(), following
                await asyncio.sleep(0.05)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    asyncio.run(asyncio.wait_for(watch(), TIMEOUT_S))


@pytest.mark.usefixtures("collection")
def test_a_connection_that_airflow_does_not_find_does_not_end_the_trigger(caplog) -> None:
    """Airflow would start it again every second, with a traceback each time."""
    trigger = RecordsArrivedTrigger(mongo_conn_id="nowhere")
    said(trigger, "nowhere: Airflow did not find this connection", caplog)


def test_a_connection_that_a_backend_denies_does_not_end_the_trigger(caplog, monkeypatch) -> None:
    """Its error is none of Airflow's own."""

    async def deny(name: str) -> None:
        raise AirflowSecretsBackendAccessDenied(name)

    monkeypatch.setattr(BaseHook, "aget_connection", deny)
    said(RecordsArrivedTrigger(), "mongo_default: Airflow did not find this connection", caplog)


@pytest.mark.usefixtures("collection")
def test_a_trigger_of_two_assets_does_not_end(caplog) -> None:
    """Airflow cannot tell in the store of which of them its token is."""
    trigger = RecordsArrivedTrigger()
    trigger.asset_state_store = AssetStateStoreAccessors([Asset("one"), Asset("two")])
    said(trigger, "the state store of the asset: ", caplog)


@pytest.mark.usefixtures("collection")
def test_a_wrong_setting_is_said_and_does_not_end_the_trigger(caplog, monkeypatch) -> None:
    """It is corrected where the triggerer is started."""
    monkeypatch.setenv("MNIST_OPS_WATCH_INTERVAL_S", "soon")
    said(RecordsArrivedTrigger(), "records are not watched: watch_interval_s: ", caplog)
