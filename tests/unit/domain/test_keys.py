"""Names are unique, stay in their folder, and contain the digest."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.keys import (
    Generation,
    artifact_key,
    bundle_prefix,
    cli_run_key,
    digest_in_name,
    is_of_generation,
    manifest_key,
    part_in_name,
    part_key,
    part_reference,
    run_key,
    sha256_hex,
    shard_key,
    split_part_reference,
)

DIGEST = sha256_hex(b"bytes")
names = st.text(min_size=1, max_size=30) | st.text("./%#2Ee", min_size=1, max_size=6)


@given(st.tuples(names, names), st.tuples(names, names))
@example(("a", "b/c"), ("a/b", "c"))
@example(("a", ".."), ("a", "%2E%2E"))
@example(("a", "b%2Fc"), ("a", "b/c"))
def test_two_runs_never_share_a_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    """The run key is injective over the pair of DAG id and run id."""
    assert (run_key(*one) == run_key(*other)) == (one == other)


@given(names, names)
@example("dag", "../../etc/passwd")
@example("..", ".")
def test_no_run_id_leaves_its_folder(dag_id: str, run_id: str) -> None:
    """A run key has two segments, none of them empty, a dot or two dots."""
    segments = run_key(dag_id, run_id).split("/")
    assert len(segments) == 2
    assert not {"", ".", ".."} & set(segments)


@given(names, names)
def test_a_run_key_is_plain_ascii(dag_id: str, run_id: str) -> None:
    """It has no special meaning to a store or a shell."""
    assert re.fullmatch(r"[A-Za-z0-9_.~%/-]+", run_key(dag_id, run_id))


@given(names, names, names)
def test_a_dag_cannot_take_the_key_of_a_run_from_the_command_line(
    dag_id: str, run_id: str, token: str
) -> None:
    """`cli/…` belongs to the command line alone."""
    assert dag_id == "cli" or run_key(dag_id, run_id) != cli_run_key(datetime(2026, 1, 31, tzinfo=UTC), token)


def test_a_dag_named_cli_does_not_meet_the_command_line() -> None:
    """Two runs that share a key would share a snapshot."""
    of_command_line = cli_run_key(datetime(2026, 1, 31, tzinfo=UTC), "token")
    assert run_key("cli", "20260131T000000Z-token") != of_command_line


def test_the_generations_of_a_run_have_different_ids() -> None:
    """Clearing the snapshot task starts a generation that shares nothing with the one before."""
    assert Generation("dag/run", 0).id != Generation("dag/run", 1).id


def test_two_attempts_at_a_part_have_different_keys() -> None:
    """An attempt never overwrites what another wrote."""
    generation = Generation("dag/run")
    assert part_key(generation, "one", 0) != part_key(generation, "two", 0)
    assert manifest_key(generation, "one", DIGEST) != manifest_key(generation, "two", DIGEST)


@given(st.sampled_from(["images", "predictions", "outcomes"]), st.integers(0, 10**7))
def test_a_shards_name_tells_its_part_and_its_digest(kind: str, part: int) -> None:
    """Readers need nothing but the URI."""
    uri = f"s3://bucket/{shard_key(kind, Generation('dag/run', 3), part, DIGEST)}"
    assert (part_in_name(uri), digest_in_name(uri)) == (part, DIGEST)


def test_an_artifacts_name_tells_its_digest() -> None:
    """The digest is between stem and suffix."""
    key = artifact_key("datasets", Generation("dag/run"), "rows.parquet", DIGEST)
    assert key == f"datasets/dag/run/0/rows-{DIGEST}.parquet"
    assert digest_in_name(key) == DIGEST


def test_a_bundles_folder_sorts_by_version() -> None:
    """Versions are padded, the digest follows without its scheme."""
    assert bundle_prefix("lenet5", 7, f"sha256:{DIGEST}") == f"models/lenet5/000007-{DIGEST}"


@pytest.mark.parametrize(
    "uri", ["", "s3://bucket/part-00000.bson.gz", "s3://bucket/x-abc.json", f"s3://b/x-{DIGEST.upper()}.json"]
)
def test_a_name_without_a_digest_is_refused(uri: str) -> None:
    """Only immutable objects are read."""
    with pytest.raises(Permanent, match="sha256"):
        digest_in_name(uri)


@pytest.mark.parametrize("uri", ["", "s3://bucket/part-0-abc.parquet", f"s3://b/dataset-{DIGEST}.json"])
def test_a_name_of_no_shard_is_refused(uri: str) -> None:
    """A part number is not guessed."""
    with pytest.raises(Permanent, match="not the name of a shard"):
        part_in_name(uri)


@given(st.text(), st.integers(0, 10**9))
def test_a_part_reference_comes_apart_as_it_was_put_together(uri: str, part: int) -> None:
    """Even where the URI holds a number sign."""
    assert split_part_reference(part_reference(uri, part)) == (uri, part)


@pytest.mark.parametrize(
    "text", ["", "s3://bucket/manifest.json", "uri#", "uri#-1", "uri#1.5", "uri#x", "uri#²"]
)
def test_what_is_no_part_reference_is_refused(text: str) -> None:
    """The message says what was expected."""
    with pytest.raises(Permanent, match="<manifest uri>#<number>"):
        split_part_reference(text)


def test_a_shard_is_known_to_be_of_its_generation_and_of_no_other():
    """A cleared run's earlier shards must not be taken for those of its next generation."""
    first, eleventh = (
        Generation("classify_records/manual__1", 1),
        Generation("classify_records/manual__1", 11),
    )
    uri = "s3://bucket/" + shard_key("outcomes", eleventh, 0, "0" * 64)
    assert is_of_generation(uri, eleventh)
    assert not is_of_generation(uri, first)
