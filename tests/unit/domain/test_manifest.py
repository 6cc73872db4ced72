"""A manifest is read back from JSON as it was written; anything else is refused."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.errors import Damaged
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.manifest import Manifest, Part
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.selection import Reclassify, Selection
from mnist_ops.domain.stages import StageReport

moments = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 (hypothesis adds the zone)
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
texts = st.text(max_size=20)
counts = st.integers(0, 10**9)
bundles = st.builds(BundleRef, texts, counts, texts, texts)
parts = st.builds(Part, counts, texts, counts, counts, texts, texts, texts)
seconds = st.integers(0, 10**7).map(lambda milliseconds: milliseconds / 1000)
stages = st.builds(
    StageReport,
    texts,
    counts,
    seconds,
    seconds,
    seconds,
    seconds,
    counts,
    st.dictionaries(texts, counts, max_size=3),
)


@st.composite
def selections(draw: st.DrawFn) -> Selection:
    """Any selection that can be made."""
    since = draw(st.none() | moments)
    length = draw(st.none() | st.timedeltas(timedelta(milliseconds=1), timedelta(days=9_000)))
    until = None if length is None else (since or datetime(2000, 1, 1, tzinfo=UTC)) + length
    reclassify = draw(st.sampled_from(Reclassify))
    reasons = st.frozensets(st.sampled_from(Reason), max_size=3)
    return Selection(
        at=draw(moments),
        since=since,
        until=until,
        reclassify=reclassify,
        limit=draw(st.none() | st.integers(1, 10**6)),
        labelled=draw(st.booleans()),
        champion=draw(st.none() | texts),
        reasons=draw(reasons) if reclassify is Reclassify.FAILED else frozenset(),
    )


manifests = st.builds(
    Manifest,
    st.builds(Generation, texts, counts),
    selections(),
    st.none() | bundles,
    st.lists(parts, max_size=3).map(tuple),
    stages,
)


@given(manifests)
def test_a_manifest_comes_back_from_json_as_it_was(manifest: Manifest) -> None:
    """Every field of it."""
    assert Manifest.from_json(manifest.to_json()) == manifest


@given(manifests)
def test_equal_manifests_have_equal_bytes(manifest: Manifest) -> None:
    """A manifest is named by its digest, so its JSON is canonical."""
    assert Manifest.from_json(manifest.to_json()).to_json() == manifest.to_json()


@given(manifests)
def test_a_manifest_counts_the_records_of_its_parts(manifest: Manifest) -> None:
    """The counts that people read agree with the parts."""
    document = json.loads(manifest.to_json())
    assert document["counts"]["records"] == manifest.records == sum(part.records for part in manifest.parts)
    assert document["counts"]["parts"] == len(manifest.parts)


def test_a_part_is_named_by_its_place_and_size() -> None:
    """People count from one; a part of one record has one record, and thousands are set apart."""
    sizes = (20_000, 1)
    parts = tuple(Part(number, "", size, 0, "", "", "") for number, size in enumerate(sizes))
    at = datetime(2026, 1, 31, tzinfo=UTC)
    stage = StageReport("snapshot", 20_001, 1.0, 0.5, 0.0, 0.5, 0, {})
    manifest = Manifest(Generation("run"), Selection(at=at), None, parts, stage)
    assert manifest.part_names() == ["part 1 of 2, 20,000 records", "part 2 of 2, 1 record"]


@given(
    st.binary(max_size=50)
    | st.recursive(st.none() | st.integers() | texts, st.lists).map(lambda v: json.dumps(v).encode())
)
def test_what_is_no_manifest_is_damaged(data: bytes) -> None:
    """Whatever the bytes are, the error is one of this library's."""
    with pytest.raises(Damaged):
        Manifest.from_json(data)


@pytest.mark.parametrize("field", ["run", "generation", "selection", "champion", "parts", "stage", "format"])
def test_a_manifest_without_a_field_is_damaged(field: str) -> None:
    """No default is filled in."""
    whole = Manifest(
        Generation("dag/run"),
        Selection(at=datetime(2026, 1, 31, tzinfo=UTC)),
        None,
        (),
        StageReport("snapshot"),
    )
    document = json.loads(whole.to_json())
    del document[field]
    with pytest.raises(Damaged):
        Manifest.from_json(json.dumps(document).encode())


def test_a_manifest_of_another_format_is_refused_with_its_number() -> None:
    """A worker does not misread a format that it does not know."""
    with pytest.raises(Damaged, match="format 2"):
        Manifest.from_json(b'{"format": 2}')
