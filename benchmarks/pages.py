"""What pages ask of a large collection, and the pages themselves, in the embedded database.

    python -m benchmarks.pages [--records N]

A million records, of which 3,000 wait, 1 % failed for good, 2 % are in review and 1 % have a human label; and
a thousand ledgers. Each question and each page is asked 20 times, after once that does not count. Beside its
times are the indexes that its queries use, as the database explains them.
"""

import argparse
import json
import random
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

from fastapi import Request
from pymongo.collection import Collection
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)
from starlette.testclient import TestClient

from benchmarks.measuring import machine
from benchmarks.stores import adapters_of, client_of, stores, timed
from mnist_ops.adapters.mongo.bson_documents import Document
from mnist_ops.adapters.mongo.record_index import MongoRecordIndex
from mnist_ops.adapters.mongo.registry import MongoRuns
from mnist_ops.domain.cursors import LedgerCursor, ReviewCursor
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.outcomes import Ledger, Outcome
from mnist_ops.domain.record_index import BoundedCount
from mnist_ops.domain.records import FieldNames
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.access import Role, User
from mnist_ops.serving.app import create_app

RECORDS, LEDGERS, ROUNDS, BATCH = 1_000_000, 1_000, 20, 5_000
APART = timedelta(seconds=10)  # between the creation of two records
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = 500
RUN = "classify_records/scheduled__2026-01-31"


@dataclass(frozen=True)
class Everybody:
    """Takes everybody for an administrator. Implements `Access`."""

    async def user(self, _request: Request) -> User:
        """The administrator."""
        return User("bench", Role.ADMIN)

    def sign_in_url(self, _request: Request) -> None:
        """Nobody has to sign in."""

    def advice(self, _needed: Role) -> str:
        """Nothing is missing."""
        return ""


@dataclass(frozen=True)
class OnePipeline:
    """Implements `Deployment`."""

    steps: Pipeline

    def pipeline(self) -> Pipeline:
        """The pipeline."""
        return self.steps


@dataclass
class Commands(CommandListener):
    """The filters of the queries of a client, as JSON texts."""

    seen: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def started(self, event: CommandStartedEvent) -> None:
        """Note the filter, or the first stage."""
        command = event.command
        query = command.get("filter") or command.get("pipeline", [{}])[0].get("$match")
        if query:
            self.seen[json.dumps(query, default=str)] = query

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to note."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to note."""


def prediction(number: int, confidence: float) -> Document:
    """A prediction as a run writes it."""
    index = number % 10
    probabilities = dict.fromkeys(DIGITS.names, (1 - confidence) / 9) | {DIGITS.names[index]: confidence}
    needs_review = confidence < 0.9
    return {
        "label": DIGITS.names[index],
        "index": index,
        "confidence": confidence,
        "probabilities": probabilities,
        "needs_review": needs_review,
        "review_reason": "low_confidence" if needs_review else None,
        "model": {"name": "lenet5", "version": 1, "digest": f"sha256:{'0' * 64}"},
        "image": {"url": url_of(number), "sha256": f"{number:064x}"},
        "run": RUN,
        "generation": 0,
        "snapshot": f"sha256:{'b' * 64}",
        "at": FIRST,
    }


def url_of(number: int) -> str:
    """The URL of a record's image."""
    return f"http://images.example/{number}.png"


def records(count: int) -> Iterator[Document]:
    """The records, oldest first; the newest 0.3 % wait."""
    chance = random.Random(1)
    for number in range(count):
        record: Document = {
            "_id": number,
            "image_url": url_of(number),
            "created_at": FIRST + APART * number,
        }
        kind = chance.random()
        if number >= count - count * 3 // 1_000:
            pass
        elif kind < 0.01:
            record["prediction_failure"] = {
                "reason": "not_found",
                "detail": "the server has no such image",
                "image_url": record["image_url"],
                "attempts": 1,
                "first_at": FIRST,
                "last_at": FIRST,
                "next_attempt_at": None,
                "permanent": True,
                "run": RUN,
            }
        else:
            low, high = (0.2, 0.9) if kind < 0.03 else (0.9, 1.0)
            record["prediction"] = prediction(number, chance.uniform(low, high))
            if kind > 0.99:
                record["label"] = DIGITS.names[number % 10]
        yield record


def fill(collection: Collection[Document], count: int) -> None:
    """Insert the records."""
    batch: list[Document] = []
    for record in records(count):
        batch.append(record)
        if len(batch) == BATCH:
            collection.insert_many(batch, ordered=False)
            batch = []
    if batch:
        collection.insert_many(batch, ordered=False)


def put_ledgers(runs: MongoRuns, count: int) -> None:
    """Store the ledgers of runs, one an hour."""
    for number in range(count):
        ledger = Ledger(
            generation=Generation(f"classify_records/hour-{number}"),
            manifest="s3://mnist-ops/none",
            selection={"at": FIRST.isoformat(), "limit": None, "reclassify": "never", "reasons": []},
            model=None,
            selected=360,
            outcomes={str(outcome): 0 for outcome in Outcome} | {"predicted": 360},
            reasons={},
            superseded=0,
            missing_parts=[],
            lost_writes=[],
            stages={},
            held_because=None,
            finished_at=FIRST + timedelta(hours=number),
            refers_to=[f"s3://mnist-ops/none/{part}" for part in range(50)],
        )
        runs.put_ledger(ledger)


def questions(index: MongoRecordIndex, runs: MongoRuns, count: int) -> dict[str, Callable[[], object]]:
    """What pages ask."""
    now = FIRST + APART * count
    middle = LedgerCursor(FIRST + timedelta(hours=LEDGERS // 2), "")
    return {
        "waiting": lambda: index.waiting(now, LIMIT),
        "oldest_waiting": lambda: index.oldest_waiting(now),
        "in_review": lambda: index.in_review(LIMIT),
        "permanently_failed": lambda: index.permanently_failed(now, LIMIT),
        "least_certain, first page": lambda: index.least_certain(None, 100),
        "least_certain, a page in the middle": lambda: index.least_certain(ReviewCursor(0.6, "0"), 100),
        "ids_of_url": lambda: index.ids_of_url(url_of(count // 2), 10),
        "newest_ledgers": lambda: runs.newest_ledgers(10, now=FIRST + timedelta(hours=LEDGERS)),
        "ledgers_with_problems": lambda: runs.ledgers_with_problems(100),
        "newest_ledgers, of a DAG, further on": lambda: runs.newest_ledgers(100, middle, "classify_records"),
    }


def pages(count: int) -> dict[str, str]:
    """The addresses of pages whose cost could depend on the size of the collection."""
    predicted = count // 2 + 1
    return {
        "overview": "/",
        "runs": "/runs",
        "record by id": f"/record?id={predicted}",
        "record by URL": f"/record?url={url_of(predicted)}",
        "review": "/review",
        "models": "/models",
        "backfills": "/backfills",
        "sketchpad": "/sketchpad",
    }


def client_of_pages(steps: Pipeline) -> TestClient:
    """A client of the application, without a server between."""
    return TestClient(create_app(OnePipeline(steps), Everybody(), airflow=False))


def print_times(name: str, ask: Callable[[], object], rounds: int = ROUNDS) -> None:
    """Ask once, then `rounds` times, and print median, longest time, and a count if that is the answer."""
    answer = ask()
    times_ms = [timed(ask, perf_counter) * 1_000 for _ in range(rounds)]
    said = f"  ({answer})" if isinstance(answer, BoundedCount) else ""
    print(f"{name:40} {statistics.median(times_ms):7.0f} ms {max(times_ms):7.0f} ms{said}", flush=True)


def indexes_of(collection: Collection[Document], commands: Commands) -> list[str]:
    """The indexes that the recorded queries use, or COLLSCAN."""
    explained: list[Any] = [collection.find(query).explain() for query in commands.seen.values()]
    return sorted({_index_of(each["queryPlanner"]["winningPlan"]) for each in explained})


def _index_of(plan: Mapping[str, Any]) -> str:
    name = plan.get("indexName")
    inner = plan.get("inputStage")
    return str(name) if name else _index_of(inner) if inner else str(plan.get("stage"))


def ask_page(client: TestClient, path: str) -> None:
    """Get a page. Raises RuntimeError if it is an error's."""
    answer = client.get(path)
    if answer.status_code != 200:
        raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:300]}")


def main() -> None:
    """Fill the database, and print the times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=RECORDS)
    count = parser.parse_args().records
    with stores() as folder:
        adapters = adapters_of(folder, "pages")
        adapters.runs.ensure_indexes()
        database = client_of(folder)["pages"]
        seconds = timed(lambda: fill(database["records"], count), perf_counter)
        put_ledgers(adapters.runs, LEDGERS)
        print(f"{machine()}; {count:,} records, inserted at {count / seconds:,.0f}/s with the indexes")
        for name, ask in questions(adapters.record_index, adapters.runs, count).items():
            print_times(name, ask)
        client = client_of_pages(Pipeline(adapters, now=lambda: FIRST + APART * count))
        for name, path in pages(count).items():
            print_times(name, lambda path=path: ask_page(client, path))
        print_plans(count, database["records"])


def print_plans(count: int, collection: Collection[Document]) -> None:
    """Print which indexes answer the questions about records."""
    commands = Commands()
    host, port = collection.database.client.address or ("127.0.0.1", 27017)
    with type(collection.database.client)(host, port, event_listeners=[commands]) as client:
        watched = client[collection.database.name]
        index = MongoRecordIndex(watched[collection.name], FieldNames())
        for name, ask in questions(index, MongoRuns(watched), count).items():
            if "ledgers" not in name:
                commands.seen.clear()
                ask()
                print(f"{name:40} {', '.join(indexes_of(collection, commands))}")


if __name__ == "__main__":
    main()
