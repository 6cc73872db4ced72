"""Concurrent requests are classified together, and too many are refused."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from mnist_ops.domain.errors import Permanent
from mnist_ops.serving.rest.batching import MAX_BATCH, MAX_WAITING, Batcher, Overloaded


class Gate:
    """Gives the length of each image; waits with the first batch until it is opened.

    Attributes:
        batches: the number of images of each batch.
    """

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.entered, self.opened = threading.Event(), threading.Event()

    def classify(self, payloads: Sequence[bytes]) -> list[int]:
        """The length of each image."""
        self.batches.append(len(payloads))
        self.entered.set()
        assert self.opened.wait(10)
        return [len(payload) for payload in payloads]


async def all_behind_one(gate: Gate, requests: Sequence[Sequence[bytes]]) -> list[object]:
    """The results, or errors, of requests that come while the batch of another one is classified."""
    batcher = Batcher(gate.classify)
    first = asyncio.ensure_future(batcher.classify([b""]))
    assert await asyncio.to_thread(gate.entered.wait, 10)
    waiting = [asyncio.ensure_future(batcher.classify(payloads)) for payloads in requests]
    await asyncio.sleep(0)
    gate.opened.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert await first == [0]
    return results


def test_what_waits_while_a_batch_is_classified_becomes_the_next_one() -> None:
    """Each request gets the results for its own images, in order."""
    gate = Gate()
    requests = [[b"a" * number, b"b" * (number + 1)] for number in range(20)]
    results = asyncio.run(all_behind_one(gate, requests))
    assert results == [[number, number + 1] for number in range(20)]
    assert gate.batches == [1, 40]


def test_a_batch_has_at_most_64_images() -> None:
    """A request is not divided."""
    gate = Gate()
    asyncio.run(all_behind_one(gate, [[b"x"] * 40, [b"x"] * 24, [b"x"]]))
    assert gate.batches == [1, MAX_BATCH, 1]


def test_a_request_while_nobody_waits_is_classified_at_once() -> None:
    """Alone: nothing waits for others to come."""
    gate = Gate()
    gate.opened.set()

    async def one_after_the_other() -> None:
        batcher = Batcher(gate.classify)
        for _ in range(3):
            await batcher.classify([b"x"])

    asyncio.run(one_after_the_other())
    assert gate.batches == [1, 1, 1]


def test_more_than_512_waiting_images_are_refused() -> None:
    """The others are answered."""
    gate = Gate()
    results = asyncio.run(all_behind_one(gate, [[b"x"] * MAX_BATCH] * (MAX_WAITING // MAX_BATCH + 1)))
    assert isinstance(results.pop(), Overloaded)
    assert results == [[1] * MAX_BATCH] * (MAX_WAITING // MAX_BATCH)


def test_a_cancelled_request_is_not_classified() -> None:
    """Its client has left."""
    gate = Gate()

    async def leave() -> None:
        batcher = Batcher(gate.classify)
        first = asyncio.ensure_future(batcher.classify([b""]))
        assert await asyncio.to_thread(gate.entered.wait, 10)
        gone, stays = (asyncio.ensure_future(batcher.classify([text])) for text in (b"gone", b"stays"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        gate.opened.set()
        assert (await first, await stays) == ([0], [5])

    asyncio.run(leave())
    assert gate.batches == [1, 1]


def test_an_error_reaches_every_request_of_its_batch_and_no_other() -> None:
    """The thread goes on."""
    failures = iter([Permanent("an output of the network is not finite")])

    def classify(payloads: Sequence[bytes]) -> list[int]:
        for error in failures:
            raise error
        return [1] * len(payloads)

    async def fail_once() -> None:
        batcher = Batcher(classify)
        with pytest.raises(Permanent, match="not finite"):
            await batcher.classify([b"x"])
        assert await batcher.classify([b"x"]) == [1]

    asyncio.run(fail_once())


def test_every_batch_is_reported_with_its_size() -> None:
    """For the metrics."""
    sizes: list[int] = []
    batcher = Batcher(lambda payloads: [0] * len(payloads), sizes.append)
    asyncio.run(batcher.classify([b"x"] * 3))
    assert sizes == [3]
