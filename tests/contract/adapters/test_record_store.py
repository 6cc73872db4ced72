"""The contract of `RecordStore`, for the store in memory and for MongoDB's adapter on SecantusDB."""

import itertools
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import bson
import pymongo.errors
import pytest
from bson import Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.errors import BSONError, InvalidDocument
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo import MongoClient

from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.adapters.mongo.bson_documents import CODEC, id_json, id_of
from mnist_ops.adapters.mongo.errors import translated
from mnist_ops.adapters.mongo.indexes import record_indexes
from mnist_ops.adapters.mongo.records import MongoRecords
from mnist_ops.adapters.mongo.selection_query import selection_pipeline
from mnist_ops.domain.errors import MnistOpsError, OutcomeUnknown, Permanent, Transient, UsageError
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import (
    HISTORY_LENGTH,
    BundleRef,
    Change,
    EmptyCollection,
    FieldNames,
    PredictionFailure,
)
from mnist_ops.domain.selection import Reclassify, Selection, takes
from tests.faults.lossy_proxy import lossy_proxy

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
SINCE, UNTIL = AT - timedelta(days=2), AT - timedelta(days=1)
MOMENT = timedelta(milliseconds=1)
CHAMPION, OTHER = "sha256:" + "c" * 64, "sha256:" + "d" * 64
URL = "https://images.example/1.png"

# The records that selections are tried on: every combination of these is a record that may occur.

ABSENT = object()

CREATED = {
    "absent": ABSENT,
    "null": None,
    "string": "2026-01-30T00:00:00Z",
    "number": 1_769_860_800_000,
    "timestamp": Timestamp(1_769_860_800, 1),
    "long ago": datetime(1969, 7, 20, tzinfo=UTC),
    "just before since": SINCE - MOMENT,
    "at since": SINCE,
    "within": SINCE + timedelta(hours=5),
    "just before until": UNTIL - MOMENT,
    "at until": UNTIL,
    "later": AT + timedelta(days=300),
    "year 3084": datetime(3084, 1, 1, tzinfo=UTC),
}
URLS = {
    "a string": URL,
    "empty": "",
    "absent": ABSENT,
    "null": None,
    "number": 7,
    "array": [URL],
    "document": {},
}
LABELS = {
    "absent": ABSENT,
    "null": None,
    "seven": "seven",
    "number": 0,
    "false": False,
    "empty": "",
    "array": [],
}


def _prediction(digest: object, url: object = URL) -> dict[str, object]:
    return {"label": "three", "model": {"digest": digest}, "image": {"url": url}, "run": "r", "generation": 0}


PREDICTIONS = {
    "absent": ABSENT,
    "null": None,
    "scalar": "seven",
    "foreign document": {"label": "seven"},
    "null digest": _prediction(None),
    "champion": _prediction(CHAMPION),
    "other bundle": _prediction(OTHER),
    "champion, other URL": _prediction(CHAMPION, "https://images.example/old.png"),
    "other bundle, null URL": _prediction(OTHER, None),
    "number for a digest": _prediction(7),
    "no image": {"model": {"digest": CHAMPION}},
}


def _failure(
    reason: str, next_attempt_at: object, url: object = URL, attempts: object = 1
) -> dict[str, object]:
    return {
        "reason": reason,
        "image_url": url,
        "attempts": attempts,
        "next_attempt_at": next_attempt_at,
        "run": "r",
        "last_at": AT - timedelta(days=1),
    }


FAILURES = {
    "absent": ABSENT,
    "null": None,
    "scalar": "failed",
    "permanent": _failure("not_found", None),
    "permanent, other URL": _failure("not_found", None, "https://images.example/old.png"),
    "permanent, no URL": _failure("invalid_url", None, None),
    "due": _failure("timeout", AT - MOMENT),
    "due now": _failure("timeout", AT),
    "not yet due": _failure("timeout", AT + MOMENT, attempts=Int64(3)),
    "permanent, blocked": _failure("blocked_address", None, attempts=5),
    "permanent, next attempt is a string": _failure("blocked_address", "2026-01-30T00:00:00Z"),
    "permanent after five attempts": _failure("timeout", None, attempts=Int64(5)),
    "not yet due, other URL": _failure("timeout", AT + MOMENT, "https://images.example/old.png"),
    "bad creation time": _failure("bad_created_at", None),
    "bad creation time, no URL": _failure("bad_created_at", None, None),
    "no attempts": {"reason": "timeout"},
    "no next attempt": {"reason": "timeout", "image_url": URL, "attempts": 2},
}

KINDS = {
    "created_at": CREATED,
    "image_url": URLS,
    "label": LABELS,
    "prediction": PREDICTIONS,
    "prediction_failure": FAILURES,
}

WINDOWS = {
    "everything": {},
    "until": {"until": UNTIL},
    "since": {"since": SINCE},
    "a window": {"since": SINCE, "until": UNTIL},
}
SELECTIONS = (
    {
        f"{reclassify}, {window}": Selection(AT, reclassify=reclassify, champion=CHAMPION, **bounds)
        for reclassify in Reclassify
        for window, bounds in WINDOWS.items()
    }
    | {
        f"failed, {window}, two reasons": Selection(
            AT,
            reclassify=Reclassify.FAILED,
            reasons=frozenset({Reason.BLOCKED_ADDRESS, Reason.TIMEOUT}),
            **bounds,
        )
        for window, bounds in WINDOWS.items()
    }
    | {
        "never, no champion": Selection(AT),
        "stale, no champion": Selection(AT, reclassify=Reclassify.STALE),
        "labelled": Selection(AT, labelled=True),
        "labelled, in a window": Selection(AT, since=SINCE, until=UNTIL, labelled=True),
    }
)


def _record(number: object, names: dict[str, str]) -> dict[str, object]:
    values = {name: KINDS[name][kind] for name, kind in names.items()}
    kinds = ", ".join(f"{name} {kind}" for name, kind in names.items())
    return {"_id": number, "kinds": kinds} | {
        name: value for name, value in values.items() if value is not ABSENT
    }


def _table() -> list[dict[str, object]]:
    """Every kind of every field on an otherwise waiting record, every pair of kinds, and a random sample."""
    waiting = {
        "created_at": "within",
        "image_url": "a string",
        "label": "absent",
        "prediction": "absent",
        "prediction_failure": "absent",
    }
    unlabelled = {name: kinds for name, kinds in KINDS.items() if name != "label"}
    combinations = [
        waiting | {one: kind, other: other_kind}
        for (one, kinds), (other, other_kinds) in itertools.combinations(unlabelled.items(), 2)
        for kind in kinds
        for other_kind in other_kinds
    ]
    combinations += [waiting | {"label": kind} for kind in LABELS]
    chance = random.Random(7)
    combinations += [
        {name: chance.choice(list(kinds)) for name, kinds in KINDS.items()} | {"label": label}
        for label in ("absent", "absent", "absent", "null", "seven")
        for _ in range(50)
    ]
    unique = {tuple(names.values()): names for names in combinations}
    return [_record(number, names) for number, names in enumerate(unique.values())]


def _documents(store, selection: Selection) -> list[dict[str, object]]:
    return [
        document
        for batch in store.raw_batches(selection)
        for document in bson.decode_all(batch, codec_options=CODEC)
    ]


def _head(store, document: dict[str, object]):
    return store.head(bson.encode(document, codec_options=CODEC))


def _heads(bench, *ids: object):
    found = bench.store.heads([id_json(record_id) for record_id in ids])
    return [found[id_json(record_id)] for record_id in ids]


def _waiting(number: object, **values: object) -> dict[str, object]:
    return {"_id": number, "image_url": URL, "created_at": SINCE} | values


# Selecting


@pytest.fixture(scope="module")
def table() -> list[dict[str, object]]:
    """Records of every kind."""
    return _table()


@pytest.fixture(scope="module", params=["memory", "secantus"])
def full_store(request, table):
    """A store with the table in it; not to be changed."""
    if request.param == "memory":
        store = InMemoryRecords()
        store.insert(*table)
        yield store
        return
    client = request.getfixturevalue("mongo")
    collection = client["contract_table"]["records"]
    collection.insert_many(table)
    store = MongoRecords(collection, FieldNames())
    store.ensure_indexes()
    yield store
    client.drop_database("contract_table")


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_selection_takes_exactly_the_records_that_the_rule_takes(full_store, table, name):
    """The store's query and `domain.selection.takes` agree on every kind of record; so does the count."""
    selection = SELECTIONS[name]
    expected = {d["_id"]: d["kinds"] for d in table if takes(selection, _head(full_store, d))}
    found = _documents(full_store, selection)
    taken = {document["_id"]: document["kinds"] for document in found}
    wrongly = [kinds for number, kinds in taken.items() if number not in expected]
    missed = [kinds for number, kinds in expected.items() if number not in taken]
    assert (wrongly, missed) == ([], [])
    assert len(found) == len(taken)
    assert full_store.count(selection) == full_store.count(selection, 20.0) == len(expected)


_kinds = st.fixed_dictionaries({name: st.sampled_from(sorted(kinds)) for name, kinds in KINDS.items()})
_moments = st.none() | st.sampled_from(
    [SINCE - MOMENT, SINCE, UNTIL - MOMENT, UNTIL, AT, datetime(1969, 7, 20, tzinfo=UTC)]
)

_reasons = st.frozensets(st.sampled_from([Reason.NOT_FOUND, Reason.TIMEOUT, Reason.INVALID_URL]))
_policies = st.sampled_from(Reclassify).map(lambda policy: (policy, frozenset())) | st.tuples(
    st.just(Reclassify.FAILED), _reasons
)


@given(
    records=st.lists(_kinds, min_size=5, max_size=30),
    moments=st.tuples(_moments, _moments),
    policy=_policies,
    at=st.sampled_from([AT, AT - MOMENT, AT + MOMENT]),
    champion=st.sampled_from([None, CHAMPION, OTHER]),
)
@settings(max_examples=25)
def test_any_selection_of_any_records_follows_the_rule(mongo, records, moments, policy, at, champion):
    """For any records and any selection, SecantusDB returns the records that `takes` takes."""
    since, until = moments
    if since and until and since >= until:
        since, until = (until, since) if until < since else (since, None)
    reclassify, reasons = policy
    selection = Selection(at, since, until, reclassify, champion=champion, reasons=reasons)
    documents = [_record(number, names) for number, names in enumerate(records)]
    collection = mongo["contract_any"]["records"]
    collection.delete_many({})
    collection.insert_many(documents)
    store = MongoRecords(collection, FieldNames())
    expected = [d["kinds"] for d in documents if takes(selection, _head(store, d))]
    assert sorted(d["kinds"] for d in _documents(store, selection)) == sorted(expected)


# Values that a query looks into, though the rule reads them as "wrong type": arrays, and numbers in disguise.
ODDITIES = {
    "an array of dates in the window": {"created_at": [SINCE + MOMENT]},
    "an array of dates after the window": {"created_at": [AT]},
    "an array of dates around the window": {"created_at": [SINCE - MOMENT, AT]},
    "an array of dates, failed for that": {
        "created_at": [SINCE + MOMENT],
        "prediction_failure": _failure("bad_created_at", None),
    },
    "a label that is an array of null": {"label": [None]},
    "an array of digests": {"prediction": _prediction([CHAMPION])},
    "an array of failures": {"prediction_failure": [_failure("not_found", None)]},
    "an array of attempts": {"prediction_failure": _failure("not_found", None, attempts=[1])},
    "an array of due times": {"prediction_failure": _failure("timeout", [AT - MOMENT])},
    "attempts that are a double": {"prediction_failure": _failure("not_found", None, attempts=1.0)},
    "attempts that are a decimal": {
        "prediction_failure": _failure("not_found", None, attempts=Decimal128("1"))
    },
    "attempts below zero": {"prediction_failure": _failure("not_found", None, attempts=-1)},
    "attempts that are true": {"prediction_failure": _failure("not_found", None, attempts=True)},
    "a reason in an array": {"prediction_failure": _failure(["bad_created_at"], None)},
    "a blocked address in an array": {"prediction_failure": _failure(["blocked_address"], None)},
    "no reason": {"prediction_failure": {"image_url": URL, "attempts": 1}},
    "predicted, then failed permanently": {
        "prediction": _prediction(CHAMPION),
        "prediction_failure": _failure("blocked_address", None),
    },
    "predicted, then failed permanently for another reason": {
        "prediction": _prediction(CHAMPION),
        "prediction_failure": _failure("not_found", None),
    },
    "predicted, then failed, due": {
        "prediction": _prediction(CHAMPION),
        "prediction_failure": _failure("timeout", AT - MOMENT),
    },
    "an array of images": {"prediction": {"model": {"digest": CHAMPION}, "image": [{"url": URL}]}},
}


@pytest.mark.parametrize("oddity", ODDITIES)
def test_a_selection_reads_an_odd_record_as_the_rule_reads_it(bench, oddity):
    """Query and rule agree on a value of a wrong type in one field, in all selections."""
    document = _waiting(1, **ODDITIES[oddity])
    bench.insert(document)
    head = _head(bench.store, document)
    decisions = {
        name: (takes(selection, head), len(_documents(bench.store, selection)) == 1)
        for name, selection in SELECTIONS.items()
    }
    assert {name: (rule, query) for name, (rule, query) in decisions.items() if rule != query} == {}


def test_fields_may_have_other_names_and_be_in_subdocuments(make_bench, writer):
    """Selecting and writing also work with dotted paths for URL, creation time and label."""
    fields = FieldNames(
        "image.url", "meta.created", "human.label", "machine", "machine_history", "machine_error"
    )
    bench = make_bench(fields)
    bench.insert(
        {"_id": 1, "image": {"url": URL}, "meta": {"created": SINCE}},
        {"_id": 2, "image": {"url": URL}, "meta": {"created": SINCE}, "human": {"label": "one"}},
        {"_id": 3, "image": {"url": URL}, "meta": {"created": UNTIL}, "human": {"name": "Ada"}},
        {"_id": 4, "image": URL, "meta": None, "human": {"label": None}},
    )
    selection = Selection(AT, until=UNTIL)
    assert [document["_id"] for document in _documents(bench.store, selection)] == [1, 4]
    one, four = _heads(bench, 1, 4)
    assert (one.image_url, one.created_at, four.image_url, four.created_at) == (URL, SINCE, None, None)
    assert bench.store.apply([writer().predict(one), writer().fail(four)]).matched == 2
    assert bench.document(1)["machine"]["label"] == "three"
    assert bench.document(4)["machine_error"]["reason"] == "not_found"
    assert _documents(bench.store, selection) == []


@pytest.mark.parametrize("reclassify", Reclassify)
def test_a_limit_takes_the_oldest(bench, reclassify):
    """With a limit, the records with the earliest creation times are taken, and the count says as many."""
    days = [5, 1, 4, 2, 3]
    bench.insert(*(_waiting(day, created_at=AT - timedelta(days=day)) for day in days))
    selection = Selection(AT, reclassify=reclassify, limit=3, champion=CHAMPION)
    assert [document["_id"] for document in _documents(bench.store, selection)] == [5, 4, 3]
    assert bench.store.count(selection) == 3
    assert bench.store.count(Selection(AT, reclassify=reclassify, limit=9, champion=CHAMPION)) == 5


@pytest.mark.parametrize(
    "created_at",
    [None, "yesterday", 5, [AT + timedelta(days=9)], Timestamp(9, 1), MaxKey(), MinKey()],
    ids=repr,
)
def test_a_limit_takes_records_without_a_usable_creation_time_first(bench, created_at):
    """A record without a creation time counts as the oldest, so that a limit cannot make it wait for ever."""
    bench.insert(_waiting("dated", created_at=SINCE), _waiting("odd", created_at=created_at))
    assert [d["_id"] for d in _documents(bench.store, Selection(AT, limit=1))] == ["odd"]


def test_a_limit_counts_what_is_taken_only(bench):
    """Records that the rule does not take do not count towards the limit."""
    bench.insert(
        *(_waiting(n, created_at=SINCE, label="one") for n in range(5)),
        *(
            _waiting(n, created_at=SINCE, prediction_failure=_failure("not_found", None))
            for n in range(5, 10)
        ),
        _waiting(10, created_at=UNTIL),
    )
    assert [d["_id"] for d in _documents(bench.store, Selection(AT, limit=2))] == [10]


def test_a_labelled_selection_with_a_limit_takes_the_oldest(bench):
    """A limit holds for the labelled records as well."""
    bench.insert(*(_waiting(n, created_at=AT - timedelta(days=n), label="one") for n in (1, 3, 2)))
    selection = Selection(AT, labelled=True, limit=2)
    assert [document["_id"] for document in _documents(bench.store, selection)] == [3, 2]
    assert bench.store.count(selection) == 2


def test_an_empty_collection_gives_nothing(bench):
    """A collection that does not exist yet is an empty one."""
    assert list(bench.store.raw_batches(Selection(AT))) == []
    assert bench.store.count(Selection(AT)) == 0
    assert bench.store.heads([id_json(1)]) == {}
    assert bench.store.missing_indexes()


def test_a_collection_is_empty_until_a_record_is_inserted(bench):
    """Indexes alone make a collection, but no record."""
    assert not bench.store.empty_collection().exists
    bench.store.ensure_indexes()
    assert bench.store.empty_collection().exists
    bench.insert(_waiting(1))
    assert bench.store.empty_collection() is None
    bench.delete(1)
    assert bench.store.empty_collection().exists


def test_a_collection_that_does_not_exist_names_the_nearest_one(database):
    """A wrong name is more likely than a website without records."""
    database["pictures"].insert_one({})
    database["digits"].insert_one({})
    database["mnist_ops_runs"].insert_one({})
    empty = MongoRecords(database["picturs"], FieldNames()).empty_collection()
    assert str(empty).startswith(
        f"the collection {database.name}.picturs does not exist; "
        f"the nearest collection that exists is {database.name}.pictures; if the name is wrong"
    )


def test_a_collection_of_the_same_name_in_another_database_is_named(database):
    """The database may be the wrong one, and its collection was made by `init`."""
    name = database.name
    elsewhere = database.client[f"{name}_website"]
    elsewhere[name].insert_one({})
    database["digits"].insert_one({})
    store = MongoRecords(database[name], FieldNames())
    store.ensure_indexes()
    assert store.empty_collection() == EmptyCollection(
        f"{name}.{name}", exists=True, nearest=f"{name}_website.{name}"
    )


def test_records_come_in_several_batches(secantus):
    """6,000 records come in more than one batch, each record once."""
    secantus.insert(*(_waiting(number) for number in range(6_000)))
    batches = list(secantus.store.raw_batches(Selection(AT)))
    ids = [document["_id"] for batch in batches for document in bson.decode_all(batch)]
    assert len(batches) > 1
    assert sorted(ids) == list(range(6_000))


# Indexes


def _plan(secantus: object, selection: Selection) -> str:
    first = selection_pipeline(selection, FieldNames())[0]["$match"]
    return str(secantus.collection.find(first).explain()["queryPlanner"]["winningPlan"])


@pytest.mark.parametrize("reclassify", Reclassify)
@pytest.mark.parametrize("window", WINDOWS)
def test_an_index_serves_every_selection_of_waiting_records(secantus, reclassify, window):
    """The first stage of every such selection is an index scan, once the indexes are made."""
    secantus.insert(*(_waiting(number) for number in range(50)))
    selection = Selection(AT, reclassify=reclassify, champion=CHAMPION, **WINDOWS[window])
    assert "IXSCAN" not in _plan(secantus, selection)
    secantus.store.ensure_indexes()
    assert "IXSCAN" in _plan(secantus, selection)
    assert "COLLSCAN" not in _plan(secantus, selection)


@pytest.mark.parametrize("reclassify", [each for each in Reclassify if each is not Reclassify.NEVER])
def test_a_window_is_found_by_an_index_also_where_predicted_records_are_taken(secantus, reclassify):
    """A backfill of one day that reclassifies does not read the records of all other days."""
    secantus.insert(*(_waiting(number) for number in range(50)))
    secantus.store.ensure_indexes()
    selection = Selection(AT, since=AT - timedelta(days=1), until=AT, reclassify=reclassify)
    assert "'mnist_ops_window'" in _plan(secantus, selection)


def test_indexes_are_missing_until_they_are_made(bench):
    """`missing_indexes` names what `ensure_indexes` makes; making them twice is safe."""
    bench.insert(_waiting(1))
    missing = list(bench.store.missing_indexes())
    assert missing
    assert list(bench.store.ensure_indexes()) == missing
    assert list(bench.store.ensure_indexes()) == missing
    assert list(bench.store.missing_indexes()) == []


def test_an_index_of_the_users_own_with_the_same_keys_is_as_good(secantus):
    """It is not missing, and `ensure_indexes` does not fail because it has another name."""
    keys = [("label", 1), ("prediction.model.digest", 1), ("created_at", 1)]
    secantus.collection.create_index(keys, name="mine")
    assert "mnist_ops_selection" not in secantus.store.missing_indexes()
    secantus.store.ensure_indexes()
    assert list(secantus.store.missing_indexes()) == []


def test_other_indexes_of_any_kind_may_exist(secantus):
    """Also a geographic index, whose direction is no number."""
    secantus.collection.create_index([("place", "2dsphere")])
    assert set(secantus.store.missing_indexes()) == set(record_indexes(FieldNames()))


# Ids

IDS = {
    "null": None,
    "int": 5,
    "long": Int64(6),
    "big long": Int64(2**53 + 1),
    "double": 7.5,
    "whole double": 8.0,
    "string": "a'\"$\u00e9\U0001f600",
    "a string like JSON": '{"$oid": "0123456789abcdef01234567"}',
    "empty string": "",
    "true": True,
    "false": False,
    "decimal": Decimal128("1.500"),
    "object id": ObjectId("0123456789abcdef01234567"),
    "document": {"b": 1, "a": {"c": [1, Int64(2), None]}},
    "document, keys the other way": {"a": {"c": [1, Int64(2), None]}, "b": 1},
    "binary": b"\x00\xff",
    "binary of a user's kind": Binary(b"\x01", 128),
    "uuid": Binary(bytes(range(16)), 4),
    # Of other bytes: to SecantusDB ids of both kinds with the same bytes are one.
    "old uuid": Binary(bytes(range(16, 32)), 3),
    "date": datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
    "date before 1970": datetime(1900, 1, 1, tzinfo=UTC),
    "smallest": MinKey(),
    "largest": MaxKey(),
    "timestamp": Timestamp(1_700_000_000, 7),
    "code": Code("f()"),
}


@pytest.mark.parametrize("name", IDS)
def test_an_id_of_any_type_goes_there_and_back_as_json(name):
    """`id_of` returns the value that `id_json` was given, with the same BSON bytes."""
    there_and_back = id_of(id_json(IDS[name]))
    assert bson.encode({"_id": there_and_back}) == bson.encode({"_id": IDS[name]})


def test_records_with_ids_of_any_type_are_found_and_written(bench, writer):
    """With an id of any type, `heads` finds its record under its JSON and `apply` writes only to it."""
    bench.insert(*(_waiting(record_id, name=name) for name, record_id in IDS.items()))
    heads = bench.store.heads([id_json(record_id) for record_id in IDS.values()])
    assert set(heads) == {id_json(record_id) for record_id in IDS.values()}
    missed = []
    for name, record_id in IDS.items():
        head = _head(bench.store, bench.document(record_id))
        if bench.store.apply([writer().predict(head)]).matched != 1:
            missed.append(name)
    assert missed == []
    assert all(bench.document(record_id)["name"] == name for name, record_id in IDS.items())


def test_heads_are_current_and_leave_out_deleted_records(bench):
    """250 ids, one of them deleted and one unknown: the others come with their current values."""
    bench.insert(*(_waiting(number) for number in range(250)))
    bench.delete(100)
    bench.edit(101, label="one", image_url=7)
    heads = bench.store.heads([id_json(number) for number in range(251)])
    assert set(heads) == {id_json(number) for number in range(250) if number != 100}
    assert (heads[id_json(101)].label, heads[id_json(101)].image_url) == ("one", None)
    assert bench.store.heads([]) == {}


def test_a_head_that_is_looked_up_is_the_head_of_the_whole_document(bench, table):
    """A record has the same head, whether it is looked up or read from a snapshot."""
    chosen = table[::7]
    bench.insert(*chosen)
    heads = bench.store.heads([id_json(document["_id"]) for document in chosen])
    assert [heads[id_json(d["_id"])] for d in chosen] == [_head(bench.store, d) for d in chosen]


# Writing


def test_whole_records_are_read_as_json_by_ids_of_any_type(bench):
    """In relaxed Extended JSON; an id that nobody has, or that is given twice, does not matter."""
    oid = ObjectId("65f000000000000000000001")
    bench.insert({"_id": oid, "at": AT, "nan": float("nan")}, {"_id": 8, "deep": {"x": [Int64(1)]}})
    ids = [id_json(oid), '{"$numberInt": "8"}', '{"$numberInt": "8"}', '"nobody"']
    assert bench.store.whole(ids) == {
        '{"$numberInt": "8"}': {"_id": 8, "deep": {"x": [1]}},
        id_json(oid): {
            "_id": {"$oid": str(oid)},
            "at": {"$date": "2026-01-31T12:00:00Z"},
            "nan": {"$numberDouble": "NaN"},
        },
    }


@pytest.mark.parametrize("text", ['{"$oid": "zz"}', '{"$date": "never"}', '"', "{"])
def test_a_text_that_is_no_id_is_a_usage_error(bench, text):
    """It names the text."""
    with pytest.raises(UsageError, match=re.escape(text)):
        bench.store.whole([text])


def test_a_prediction_is_written_and_takes_the_failure_away(bench, writer):
    """The record carries the prediction's document, no failure, and nothing else has changed."""
    before = _waiting(1, prediction_failure=_failure("timeout", AT), name="Ada", nested={"a": [1, 2]})
    bench.insert(before, _waiting(2))
    untouched = bench.raw()[id_json(2)]
    change = writer().predict(*_heads(bench, 1))
    report = bench.store.apply([change])
    assert (report.matched, dict(report.refused)) == (1, {})
    after = bench.document(1)
    expected = {name: value for name, value in before.items() if name != "prediction_failure"}
    assert after == expected | {"prediction": change.outcome.document()}
    assert bench.raw()[id_json(2)] == untouched


def test_a_failure_is_written_and_leaves_the_prediction(bench, writer):
    """A failed reclassification keeps the old prediction beside the failure, and no history appears."""
    bench.insert(_waiting(1, prediction=_prediction(OTHER)))
    change = writer().fail(*_heads(bench, 1))
    assert bench.store.apply([change]).matched == 1
    after = bench.document(1)
    assert after == _waiting(1, prediction=_prediction(OTHER), prediction_failure=change.outcome.document())


def test_former_predictions_are_kept_newest_first_and_at_most_five(bench, writer):
    """Seven predictions in a row leave the last one and the five before it."""
    bench.insert(_waiting(1))
    for number in range(7):
        one_run = writer(generation=Generation(f"classify_records/{number}"))
        assert bench.store.apply([one_run.predict(*_heads(bench, 1), index=number % 6)]).matched == 1
    after = bench.document(1)
    assert after["prediction"]["run"] == "classify_records/6"
    runs = [former["run"] for former in after["prediction_history"]]
    assert runs == [f"classify_records/{number}" for number in (5, 4, 3, 2, 1)]
    assert len(runs) == HISTORY_LENGTH


def test_a_former_prediction_is_kept_as_it_was(bench, writer):
    """Also one of another writer, with values of any type, goes to the history unchanged."""
    former = _prediction(OTHER) | {
        "extra": [Int64(1), Decimal128("1.50"), {"$weird": "$name"}],
        "z": 1,
        "a": 2,
    }
    bench.insert(_waiting(1, prediction=former))
    assert bench.store.apply([writer().predict(*_heads(bench, 1))]).matched == 1
    kept = bench.document(1)["prediction_history"][0]
    assert bson.encode(kept) == bson.encode(former)


def test_a_history_that_is_no_list_is_not_changed(bench, writer):
    """The write of that record is refused, so that no data of the user is lost; the others are written."""
    bench.insert(
        _waiting(1, prediction=_prediction(OTHER), prediction_history="see the file"),
        _waiting(2, prediction=_prediction(OTHER)),
    )
    report = bench.store.apply([writer().predict(head) for head in _heads(bench, 1, 2)])
    assert (report.matched, list(report.refused)) == (1, [0])
    assert bench.document(1)["prediction_history"] == "see the file"
    assert bench.document(2)["prediction"]["run"] == writer().generation.run


MEANWHILE = {
    "the URL is edited": {"image_url": "https://images.example/other.png"},
    "the URL is taken away": {"image_url": None},
    "the URL becomes a number": {"image_url": 7},
    "the URL becomes an array of itself": {"image_url": [URL]},
    "a human labels it": {"label": "seven"},
    "a human labels it with false": {"label": False},
    "a human labels it with an array": {"label": [None]},
    "another run predicts": {"prediction": _prediction(CHAMPION) | {"run": "other"}},
    "another generation predicts": {"prediction": _prediction(OTHER) | {"generation": 1}},
    "the same run predicts with another bundle": {"prediction": _prediction(CHAMPION)},
    "the prediction is taken away": {"prediction": None},
}


@pytest.mark.parametrize("outcome", ["predict", "fail"])
@pytest.mark.parametrize("event", MEANWHILE)
def test_a_record_that_changed_since_its_snapshot_is_not_written(bench, writer, event, outcome):
    """URL, human label and prediction must be as snapshotted, or nothing at all is written."""
    bench.insert(_waiting(1, prediction=_prediction(OTHER)), _waiting(2))
    one, two = _heads(bench, 1, 2)
    bench.edit(1, **MEANWHILE[event])
    before = bench.raw()[id_json(1)]
    report = bench.store.apply([getattr(writer(), outcome)(head) for head in (one, two)])
    assert (report.matched, dict(report.refused)) == (1, {})
    assert bench.raw()[id_json(1)] == before
    assert bench.raw()[id_json(2)] != before


def test_a_failure_is_not_written_over_a_newer_failure(bench, writer):
    """A failure continues the count of the snapshotted one; a newer one is kept."""
    bench.insert(_waiting(1, prediction_failure=_failure("timeout", AT)))
    (head,) = _heads(bench, 1)
    bench.edit(1, prediction_failure=_failure("timeout", AT) | {"run": "other"})
    before = bench.raw()
    assert bench.store.apply([writer().fail(head)]).matched == 0
    assert bench.raw() == before


def test_the_same_failure_written_twice_is_written_once(bench, writer):
    """The second write finds the first one's mark and matches nothing."""
    bench.insert(_waiting(1))
    (head,) = _heads(bench, 1)
    assert [bench.store.apply([writer().fail(head)]).matched for _ in range(2)] == [1, 0]


def test_the_same_prediction_written_twice_is_written_once(bench, writer):
    """The second write matches nothing, and no history appears."""
    bench.insert(_waiting(1))
    (head,) = _heads(bench, 1)
    assert [bench.store.apply([writer().predict(head)]).matched for _ in range(2)] == [1, 0]
    assert "prediction_history" not in bench.document(1)


@pytest.mark.usefixtures("hasty_threads")
def test_of_many_writers_at_once_one_matches_a_record(bench, writer):
    """Eight runs write the same hundred records at the same moment: each record matches once."""
    bench.insert(*(_waiting(number) for number in range(100)))
    heads = _heads(bench, *range(100))
    barrier = threading.Barrier(8)

    def write(number: int) -> int:
        one_run = writer(generation=Generation(f"classify_records/{number}"))
        changes = [one_run.predict(head) for head in heads]
        barrier.wait()
        return bench.store.apply(changes).matched

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(8))) == 100
    assert not any("prediction_history" in bench.document(number) for number in range(100))


def test_a_url_that_was_no_string_may_change_into_another_that_is_none(bench, writer):
    """The failure of a record without a usable URL is written as long as it has none."""
    bench.insert(_waiting(1, image_url=7), _waiting(2, image_url=7))
    one, two = _heads(bench, 1, 2)
    bench.edit(1, image_url=["a"])
    bench.edit(2, image_url="https://images.example/2.png")
    assert bench.store.apply([writer().fail(one), writer().fail(two)]).matched == 1
    assert "prediction_failure" in bench.document(1)
    assert "prediction_failure" not in bench.document(2)


def test_a_deleted_record_stays_deleted(bench, writer):
    """No write inserts."""
    bench.insert(_waiting(1))
    (head,) = _heads(bench, 1)
    bench.delete(1)
    assert bench.store.apply([writer().predict(head), writer().fail(head)]).matched == 0
    assert bench.raw() == {}


def test_no_changes_are_no_writes(bench):
    """An empty batch sends no request."""
    report = bench.store.apply([])
    assert (report.matched, dict(report.refused)) == (0, {})


def test_names_and_values_with_dollars_are_taken_literally(bench, writer):
    """A URL, a detail or an id that looks like an operator or a field path is a value."""
    url = "$image_url"
    bench.insert(_waiting({"a": "$where"}, image_url=url), _waiting("$_id", image_url=url))
    one, two = _heads(bench, {"a": "$where"}, "$_id")
    assert bench.store.apply([writer().predict(one), writer().fail(two)]).matched == 2
    assert bench.document({"a": "$where"})["prediction"]["image"]["url"] == url
    assert bench.document("$_id")["prediction_failure"]["image_url"] == url


def test_documents_that_the_database_refuses_are_reported_by_position(secantus, writer):
    """A validator refuses one of three: it is named with the server's code, the others are written."""
    secantus.insert(*(_waiting(number) for number in range(3)))
    secantus.collection.database.command(
        "collMod", "records", validator={"prediction.index": {"$ne": 2}}, validationLevel="strict"
    )
    heads = _heads(secantus, 0, 1, 2)
    report = secantus.store.apply(
        [writer().predict(head, index) for head, index in zip(heads, (1, 2, 3), strict=True)]
    )
    assert (report.matched, list(report.refused)) == (2, [1])
    assert "code 121" in report.refused[1]
    assert "prediction" not in secantus.document(1)
    assert [secantus.document(number)["prediction"]["index"] for number in (0, 2)] == [1, 3]


# Errors


def test_a_server_that_does_not_answer_is_transient():
    """A read may succeed later; the outcome of a write is unknown."""
    with MongoClient("127.0.0.1", 9, serverSelectionTimeoutMS=100) as client:
        store = MongoRecords(client["contract"]["records"], FieldNames())
        for call in (
            lambda: store.count(Selection(AT)),
            lambda: list(store.raw_batches(Selection(AT))),
            lambda: store.heads([id_json(1)]),
            store.ensure_indexes,
            store.missing_indexes,
            store.empty_collection,
        ):
            with pytest.raises(Transient) as caught:
                call()
            assert not isinstance(caught.value, OutcomeUnknown)


def test_a_count_ends_after_its_seconds():
    """However long the connection may wait otherwise."""
    with MongoClient("127.0.0.1", 9, serverSelectionTimeoutMS=20_000) as client:
        store, started = MongoRecords(client["contract"]["records"], FieldNames()), time.monotonic()
        with pytest.raises(Transient):
            store.count(Selection(AT), 0.1)
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("retry", [True, False])
def test_a_write_to_a_server_that_stopped_has_an_unknown_outcome(bench, mongo_port, writer, retry):
    """The server stops between the snapshot and the write."""
    bench.insert(_waiting(1))
    change = writer().predict(*_heads(bench, 1))
    with (
        lossy_proxy(mongo_port) as proxy,
        MongoClient(
            "127.0.0.1",
            proxy.port,
            directConnection=True,
            serverSelectionTimeoutMS=300,
            retryWrites=retry,
        ) as client,
    ):
        store = MongoRecords(client["contract"]["records"], FieldNames())
        assert store.apply([change]).matched == 0
        proxy.cut()
        with pytest.raises(OutcomeUnknown) as caught:
            store.apply([change])
        assert "Topology" not in str(caught.value)


def test_a_cursor_that_breaks_is_transient(secantus, mongo_port):
    """The connection is lost between two batches: the snapshot can be taken again."""
    secantus.insert(*(_waiting(number) for number in range(5_100)))
    with (
        lossy_proxy(mongo_port) as proxy,
        MongoClient("127.0.0.1", proxy.port, directConnection=True, serverSelectionTimeoutMS=300) as client,
    ):
        namespace = secantus.collection
        store = MongoRecords(client[namespace.database.name][namespace.name], FieldNames())
        proxy.lose_reply_to("getMore", times=3)
        with pytest.raises(Transient):
            list(store.raw_batches(Selection(AT)))
        assert proxy.lost


def _error_classes(root: type[BaseException]) -> list[type[BaseException]]:
    found = {root}
    for child in root.__subclasses__():
        found.update(_error_classes(child))
    return sorted(found, key=lambda each: (each.__module__, each.__name__))


def _made(kind: type[BaseException]) -> BaseException:
    """Make an error of a class, whatever arguments its constructor needs."""
    for arguments in [("lost",), ("lost", {}), ("lost", 1, {}), ({},), ({}, True)]:
        try:
            return kind(*arguments)
        except (TypeError, AttributeError):
            continue
    raise AssertionError(f"no idea how to make {kind}")


LIBRARY_ERRORS = [
    kind
    for root in (pymongo.errors.PyMongoError, BSONError)
    for kind in _error_classes(root)
    if kind is not pymongo.errors.DuplicateKeyError  # the registry's to answer
]


@pytest.mark.parametrize("kind", LIBRARY_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_client_library_becomes_one_of_ours(kind):
    """No error of pymongo's or bson's leaves the adapters."""

    def fail() -> None:
        raise _made(kind)

    with pytest.raises(MnistOpsError) as caught:
        translated(fail)
    assert isinstance(caught.value.__cause__, kind)


@pytest.mark.parametrize(
    "error",
    [
        pymongo.errors.AutoReconnect("gone"),
        pymongo.errors.NotPrimaryError("stepped down"),
        pymongo.errors.NetworkTimeout("slow"),
        pymongo.errors.ServerSelectionTimeoutError("nobody"),
        pymongo.errors.WaitQueueTimeoutError("busy"),
        pymongo.errors.ExecutionTimeout("slow", 50, {}),
        pymongo.errors.WTimeoutError("slow", 64, {}),
        pymongo.errors.CursorNotFound("expired", 43, {}),
        pymongo.errors.OperationFailure("interrupted", 11602, {"errorLabels": ["RetryableWriteError"]}),
        pymongo.errors.OperationFailure(
            "write conflict", 112, {"errorLabels": ["TransientTransactionError"]}
        ),
        pymongo.errors.OperationFailure("the majority is not there yet", 134, {}),
    ],
    ids=lambda error: f"{type(error).__name__} {getattr(error, 'code', '') or ''}".strip(),
)
def test_an_error_that_may_pass_is_transient(error):
    """The server is down, busy, or asks for a retry."""

    def fail() -> None:
        raise error

    with pytest.raises(Transient):
        translated(fail)


@pytest.mark.parametrize(
    "error",
    [
        pymongo.errors.OperationFailure("Authentication failed.", 18, {}),
        pymongo.errors.OperationFailure("not authorized", 13, {}),
        pymongo.errors.ConfigurationError("no such option"),
        pymongo.errors.InvalidURI("nonsense"),
        pymongo.errors.InvalidName("a.."),
        InvalidDocument("not BSON"),
    ],
    ids=lambda error: f"{type(error).__name__} {getattr(error, 'code', '') or ''}".strip(),
)
def test_an_error_that_cannot_pass_is_permanent(error):
    """Wrong credentials, names and options fail at once."""

    def fail() -> None:
        raise error

    with pytest.raises(Permanent):
        translated(fail)


def test_a_change_that_is_too_large_is_refused_alone(secantus, writer):
    """A prediction beyond a document's 16 MiB is reported by its position, the other one is written."""
    secantus.insert(_waiting(1), _waiting(2))
    one, two = _heads(secantus, 1, 2)
    huge = BundleRef("lenet5" * (3 << 20), 1, "memory://objects/x", CHAMPION)
    report = secantus.store.apply([writer(model=huge).predict(one), writer().predict(two)])
    assert (report.matched, list(report.refused)) == (1, [0])


@pytest.mark.parametrize("damage", [b"", b"\x05\0\0\0", b"\x0c\0\0\0\x02a\0\xff\xff\xff\x7f\0"], ids=repr)
def test_bytes_that_are_no_document_are_an_error_of_ours(bench, damage):
    """`head` of damaged bytes raises one of our errors."""
    with pytest.raises(MnistOpsError):
        bench.store.head(damage)


def test_consecutive_batches_are_independent(bench, writer):
    """A batch of which some records do not match has no effect on the next one."""
    bench.insert(*(_waiting(number) for number in range(4)))
    heads = _heads(bench, 0, 1, 2, 3)
    for one, other in itertools.pairwise(heads):
        bench.store.apply([writer().predict(one), writer().fail(other)])
    labelled = [number for number in range(4) if "prediction" in bench.document(number)]
    assert labelled == [0, 1, 2]


def test_a_url_too_long_to_be_written_back_counts_as_absent(bench):
    """A record with a URL of megabytes ends once as a failure, and does not fail its part."""
    bench.insert(_waiting(1, image_url="http://images.example/" + "x" * 9_000_000))
    selection = Selection(AT)
    [document] = _documents(bench.store, selection)
    head = _head(bench.store, document)
    assert head.image_url is None
    failure = PredictionFailure(Reason.INVALID_URL, "too long", None, 1, AT, AT, None, "cli/now")
    assert bench.store.apply([Change(head, failure)]).matched == 1
    assert _documents(bench.store, selection) == []
