"""A snapshot has the records byte for byte, for every BSON type, and can be restored from its parts."""

import gzip
import struct
from collections.abc import Iterator
from datetime import UTC, datetime

import bson
import pytest
from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument

from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.records import InMemoryRecords
from mnist_ops.adapters.memory.registries import InMemoryModels, InMemoryRuns
from mnist_ops.adapters.mongo.bson_documents import id_json
from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.selection import Selection
from mnist_ops.steps.artifacts.objects import read_manifest
from mnist_ops.steps.artifacts.parts import read_part
from mnist_ops.steps.snapshot import SnapshotRequest, snapshot

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)

VALUES = {
    "double": 1.5,
    "whole double": 3.0,
    "not a number": float("nan"),
    "minus zero": -0.0,
    "infinity": float("-inf"),
    "string": "s\0é\U0001f600",
    "document, keys in no order": {"z": 1, "a": {"m": 2, "b": 3}},
    "array of everything": [1, Int64(1), 1.0, "1", None, [], {}],
    "binary": b"\0\xff",
    "binary 2": Binary(b"abc", 2),
    "uuid": Binary(bytes(range(16)), 4),
    "old uuid": Binary(bytes(range(16)), 3),
    "vector": Binary(b"\x03\0abc", 9),
    "binary of a user's kind": Binary(b"\x01", 128),
    "object id": ObjectId("0123456789abcdef01234567"),
    "bool": True,
    "date": datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
    "date before 1970": datetime(1900, 1, 1, tzinfo=UTC),
    "date in the year 9999": datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    "null": None,
    "regex": Regex("^a.*\\.png$", "imx"),
    "reference": DBRef("other", ObjectId("0123456789abcdef01234567"), "db"),
    "code": Code("f()"),
    "code with scope": Code("f()", {"x": Int64(1)}),
    "int": 5,
    "long": Int64(5),
    "big long": Int64(2**62 + 1),
    "timestamp": Timestamp(1_700_000_000, 7),
    "decimal": Decimal128("1.500"),
    "decimal not a number": Decimal128("NaN"),
    "smallest": MinKey(),
    "largest": MaxKey(),
    "empty key": {"": 1},
    "keys like paths and operators": {"a.b": 1, "$c": {"$ref": 5}},
}


def _element(kind: int, value: bytes) -> bytes:
    """A document with an int `_id`, a URL, and one element of a type that PyMongo does not write any more."""
    body = bson.encode({"_id": 1_000 + kind, "image_url": "https://images.example/1.png"})[4:-1]
    body += bytes([kind]) + b"value\0" + value + b"\0"
    return struct.pack("<i", len(body) + 4) + body


OUTDATED = {
    "undefined": _element(0x06, b""),
    "reference of old": _element(0x0C, struct.pack("<i", 6) + b"other\0" + bytes(12)),
    "symbol": _element(0x0E, struct.pack("<i", 4) + b"abc\0"),
}


def _record(number: int, value: object) -> dict[str, object]:
    return {"_id": number, "image_url": "https://images.example/1.png", "value": value, "last": [value]}


def _records() -> list[dict[str, object]]:
    return [_record(number, value) for number, value in enumerate(VALUES.values())]


class MemoryOfBytes(InMemoryRecords):
    """Records that no current driver would write, returned as they are."""

    def __init__(self, documents: list[bytes]) -> None:
        super().__init__()
        self._bytes = documents

    def raw_batches(self, selection: Selection) -> Iterator[bytes]:
        """All of them, whatever the selection."""
        yield from self._bytes


def _snapshot(store, objects, records_per_part: int = 5):
    models = InMemoryModels()
    champion = BundleRef("lenet5", 1, "memory://objects/models/1", "sha256:1")
    models.promote(champion, None, Promotion(AT, "ada", "the first"))
    request = SnapshotRequest(
        Generation("classify_records/one"), Selection(AT), "attempt", "lenet5", records_per_part
    )
    uri = snapshot(request, records=store, objects=objects, runs=InMemoryRuns(), models=models)
    return read_manifest(objects, uri)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_of_any_type_is_read_as_it_was_sent(bench, name):
    """The store returns the bytes that the website sent."""
    sent = bson.encode(_record(1, VALUES[name]))
    bench.insert(RawBSONDocument(sent))
    assert list(bench.store.raw_batches(Selection(AT))) == [sent]


@pytest.mark.parametrize("name", OUTDATED)
def test_a_value_of_an_outdated_type_is_read_as_it_is_stored(bench, name):
    """The database may convert it on arrival; the snapshot has what is stored."""
    bench.insert(RawBSONDocument(OUTDATED[name]))
    assert list(bench.store.raw_batches(Selection(AT))) == list(bench.raw().values())


def test_every_record_can_be_read_whatever_it_holds(bench):
    """The fields that the pipeline reads are found beside values of any type."""
    bench.insert(*_records(), *(RawBSONDocument(document) for document in OUTDATED.values()))
    heads = [
        bench.store.head(document.raw)
        for batch in bench.store.raw_batches(Selection(AT))
        for document in bson.decode_all(batch, DEFAULT_RAW_BSON_OPTIONS)
    ]
    assert len(heads) == len(VALUES) + len(OUTDATED)
    assert {head.image_url for head in heads} == {"https://images.example/1.png"}


def test_the_parts_hold_every_record_byte_for_byte(bench, objects):
    """Cut into parts, gzipped, stored and read back: each record once, equal to the collection's bytes."""
    bench.insert(*_records())
    before = bench.raw()
    manifest = _snapshot(bench.store, objects)
    documents = [document for part in manifest.parts for document in read_part(objects, part)]
    assert {id_json(bson.decode(document)["_id"]): document for document in documents} == before
    assert len(documents) == manifest.records == len(VALUES)
    assert [part.records for part in manifest.parts[:-1]] == [5] * (len(manifest.parts) - 1)
    assert bench.raw() == before


def test_a_collection_restored_from_its_parts_is_the_original(make_bench):
    """Inserted as they are into another collection, the documents of the parts have the original's bytes."""
    original, restored = make_bench(), make_bench()
    original.insert(*_records())
    objects = InMemoryObjects()
    for part in _snapshot(original.store, objects).parts:
        restored.insert(*(RawBSONDocument(document) for document in read_part(objects, part)))
    assert restored.raw() == original.raw()


def test_a_part_is_a_file_as_mongodump_writes_it(bench):
    """`gunzip` gives concatenated BSON documents, which any BSON library reads."""
    bench.insert(*_records())
    objects = InMemoryObjects()
    manifest = _snapshot(bench.store, objects)
    unpacked = b"".join(gzip.decompress(objects.get_bytes(part.uri)) for part in manifest.parts)
    ids = [document["_id"] for document in bson.decode_all(unpacked)]
    assert sorted(ids) == list(range(len(VALUES)))
    assert (manifest.parts[0].first_id, manifest.parts[-1].last_id) == (id_json(ids[0]), id_json(ids[-1]))


def test_records_with_ids_of_any_type_are_restored(make_bench):
    """Ids keep their types and bytes, and the manifest names the first and the last one."""
    ids = [value for value in VALUES.values() if not isinstance(value, list | Regex | float)]
    unique = {id_json(record_id): record_id for record_id in [*ids, 7.5]}
    for name in ("old uuid", "code with scope"):
        del unique[id_json(VALUES[name])]  # SecantusDB takes it and its like of the other kind for one id
    del unique[id_json(VALUES["long"])]  # MongoDB takes equal numbers of different types for one id
    for name in ("keys like paths and operators", "reference"):
        del unique[id_json(VALUES[name])]  # MongoDB refuses `$` in ids
    original, restored = make_bench(), make_bench()
    original.insert(*({"_id": record_id, "value": name} for name, record_id in unique.items()))
    objects = InMemoryObjects()
    parts = _snapshot(original.store, objects, records_per_part=1).parts
    assert {part.first_id for part in parts} == set(unique)
    for part in parts:
        restored.insert(*(RawBSONDocument(document) for document in read_part(objects, part)))
    assert restored.raw() == original.raw()


def test_broken_text_is_copied_as_it_is():
    """Old drivers could write strings that are not UTF-8; they end neither the snapshot nor the part."""
    good = bson.encode({"_id": 1, "image_url": "https://images.example/1.png", "value": "abc"})
    broken = good.replace(b"abc", b"a\xffc")
    store = MemoryOfBytes([broken])
    objects = InMemoryObjects()
    (part,) = _snapshot(store, objects).parts
    assert list(read_part(objects, part)) == [broken]
    assert store.head(broken).image_url == "https://images.example/1.png"
