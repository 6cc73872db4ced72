"""The contracts of `RunStore`, `ModelRegistry` and `DatasetRegistry`, in memory and on SecantusDB."""

import dataclasses
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from pymongo import MongoClient, monitoring

from mnist_ops.adapters.mongo.registry import (
    DATASETS,
    LEDGERS,
    MODELS,
    RUNS,
    MongoDatasets,
    MongoModels,
    MongoRuns,
)
from mnist_ops.domain.champions import Action, ChampionChange, Promotion
from mnist_ops.domain.cursors import LedgerCursor
from mnist_ops.domain.errors import MnistOpsError, Permanent, Transient
from mnist_ops.domain.gate import Decision
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import HoldRelease, Ledger, Outcome
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.stages import StageReport
from tests.faults.lossy_proxy import lossy_proxy

T = TypeVar("T")

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
ONE = Generation("classify_records/one", 0)
THREADS = 16
FIRST = Promotion(AT, "ada", "it is better")
SECOND = Promotion(AT + timedelta(hours=1), "grace", "it is even better")
BACK = Promotion(AT + timedelta(hours=2), "edsger", "it reads sevens as ones")


def _at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make calls at the same moment, each in a thread; return their results."""
    barrier = threading.Barrier(len(calls))
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def make(number: int, call: Callable[[], T]) -> None:
        barrier.wait()
        try:
            results[number] = call()
        except BaseException as error:  # noqa: BLE001 (raised again in the test's own thread)
            errors.append(error)

    threads = [threading.Thread(target=make, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(calls))]


class _Once(monitoring.CommandListener):
    """Calls a function once, as soon as a client's first command of a name has been answered."""

    def __init__(self, command: str, call: Callable[[], object]) -> None:
        self.answer: object = None
        self._command: str | None = command
        self._call = call

    def started(self, event: object) -> None:
        """Not yet."""

    def succeeded(self, event: object) -> None:
        """Call, once."""
        if event.command_name == self._command:
            self._command = None
            self.answer = self._call()

    def failed(self, event: object) -> None:
        """Nothing fails here."""


class _Queries(monitoring.CommandListener):
    """Keeps the filters of a client's queries."""

    def __init__(self) -> None:
        self.filters: list[object] = []

    def started(self, event: object) -> None:
        """Keep it."""
        if event.command_name == "find":
            self.filters.append(event.command["filter"])

    def succeeded(self, event: object) -> None:
        """Not needed."""

    def failed(self, event: object) -> None:
        """Nothing fails here."""


# Runs


def test_a_generation_is_committed_once(runs):
    """The first manifest is kept; a later commit returns it."""
    assert runs.committed(ONE) is None
    assert runs.commit(ONE, "s3://b/first", AT) == "s3://b/first"
    assert runs.commit(ONE, "s3://b/second", AT) == "s3://b/first"
    assert runs.committed(ONE) == "s3://b/first"


def test_generations_are_committed_apart(runs):
    """The next generation of a run, and another run, each have their own commit."""
    others = [
        Generation(ONE.run, 1),
        Generation("classify_records/one%2F0", 0),
        Generation("train_lenet/one", 0),
    ]
    runs.commit(ONE, "s3://b/one", AT)
    assert [runs.committed(other) for other in others] == [None, None, None]
    assert [runs.commit(other, other.id, AT) for other in others] == [other.id for other in others]
    assert runs.committed(ONE) == "s3://b/one"


@pytest.mark.usefixtures("hasty_threads")
def test_of_many_attempts_at_once_one_commits(runs):
    """Sixteen attempts commit at the same moment: all get the same manifest, which is the committed one."""
    for number in range(5):
        generation = Generation("classify_records/raced", number)
        results = _at_once(
            [lambda n=n, g=generation: runs.commit(g, f"s3://b/{n}", AT) for n in range(THREADS)]
        )
        assert set(results) == {runs.committed(generation)}


def test_a_hold_is_released_by_name(runs):
    """The name is kept; before the release there is none."""
    runs.commit(ONE, "s3://b/one", AT)
    assert runs.hold_release(ONE) is None
    runs.release_hold(ONE, "ada", "the server is known to be down", AT)
    assert runs.hold_release(ONE).by == "ada"
    assert runs.hold_release(Generation(ONE.run, 1)) is None
    assert runs.committed(ONE) == "s3://b/one"


def test_a_hold_can_be_released_again(runs):
    """A second release is no error and changes nothing; nor does a second attempt to commit."""
    runs.commit(ONE, "s3://b/one", AT)
    runs.release_hold(ONE, "ada", "looked at it", AT)
    runs.release_hold(ONE, "bob", "did not look", AT + timedelta(hours=1))
    runs.commit(ONE, "s3://b/two", AT)
    assert runs.hold_release(ONE) == HoldRelease("ada", "looked at it", AT)


def test_no_hold_of_an_unknown_generation_is_released(runs):
    """It is a permanent error that names it, and commits nothing."""
    with pytest.raises(Permanent, match="classify_records/one/0"):
        runs.release_hold(ONE, "ada", "why not", AT)
    assert runs.committed(ONE) is None
    assert runs.hold_release(ONE) is None


def _ledger(generation: Generation, minutes: int = 0, predicted: int = 3) -> Ledger:
    return Ledger(
        generation=generation,
        manifest=f"s3://b/{generation.id}",
        selection={"at": AT.isoformat(), "limit": None, "reclassify": "never", "reasons": []},
        model=BundleRef("lenet5", 1, "s3://b/models/1", "sha256:1"),
        selected=predicted + 1,
        outcomes={str(outcome): 0 for outcome in Outcome} | {"predicted": predicted, "quarantined": 1},
        reasons={"not_found": 1},
        superseded=0,
        missing_parts=[],
        lost_writes=['{"$oid": "0123456789abcdef01234567"}'],
        stages={
            "fetch": StageReport("fetch", records=4, seconds=2.0, bytes=10, s3_requests={"PutObject": 2})
        },
        held_because=None,
        finished_at=AT + timedelta(minutes=minutes),
        refers_to=[],
    )


def test_a_ledger_is_kept_whole(runs):
    """It comes back with every number, under its generation's id."""
    ledger = _ledger(ONE)
    runs.put_ledger(ledger)
    assert [dict(kept) for kept in runs.ledgers()] == [{"_id": ONE.id, **ledger.document()}]


def test_a_ledger_replaces_the_one_before(runs):
    """Of the same generation only; the next generation's ledger is another one."""
    runs.put_ledger(_ledger(ONE, predicted=1))
    runs.put_ledger(_ledger(ONE, predicted=2))
    runs.put_ledger(_ledger(Generation(ONE.run, 1), minutes=1))
    assert [(kept["generation"], kept["selected"]) for kept in runs.ledgers()] == [(0, 3), (1, 4)]


def test_ledgers_are_listed_by_prefix_oldest_first(runs):
    """The runs of one DAG, in the order in which they finished; a prefix is text, not a pattern."""
    names = [
        "classify_records/b",
        "classify_records/a",
        "classify_records_too/c",
        "train_lenet/d",
        "classify.records/e",
    ]
    for minutes, name in enumerate(names):
        runs.put_ledger(_ledger(Generation(name), minutes=-minutes))
    listed = {
        prefix: [kept["run"] for kept in runs.ledgers(prefix)]
        for prefix in ("classify_records/", "classify_records", "classify.", "train_lenet/d", "nothing", "")
    }
    assert listed == {
        "classify_records/": ["classify_records/a", "classify_records/b"],
        "classify_records": ["classify_records_too/c", "classify_records/a", "classify_records/b"],
        "classify.": ["classify.records/e"],
        "train_lenet/d": ["train_lenet/d"],
        "nothing": [],
        "": names[::-1],
    }


def test_a_ledger_is_found_by_its_generation(runs):
    """There is none before it is written."""
    assert runs.ledger(ONE) is None
    runs.put_ledger(_ledger(ONE))
    assert runs.ledger(ONE) == {"_id": ONE.id, **_ledger(ONE).document()}
    assert runs.ledger(Generation(ONE.run, 1)) is None


@pytest.mark.parametrize("now", [None, AT - timedelta(hours=1), AT + timedelta(days=900)])
@pytest.mark.parametrize("dag", [None, "classify_records", "cli"])
def test_ledgers_are_read_newest_first_in_pages(runs, dag, now):
    """Every ledger once, also where several runs finished at the same moment; a DAG's alone if asked for."""
    made = [
        (name, minutes) for minutes in range(3) for name in ("classify_records/a", "cli/b", "train_lenet/c")
    ]
    for number, (name, minutes) in enumerate(made):
        runs.put_ledger(_ledger(Generation(name, number), minutes=minutes))
    read: list[str] = []
    before = None
    while page := runs.newest_ledgers(2, before, dag, now):
        read += [str(ledger["_id"]) for ledger in page]
        assert "refers_to" not in page[0]
        before = LedgerCursor.parse(str(LedgerCursor.of(page[-1])))
    expected = [
        (minutes, f"{name}/{number}")
        for number, (name, minutes) in enumerate(made)
        if dag in (None, name.partition("/")[0])
    ]
    assert read == [key for _, key in sorted(expected, reverse=True)]


def test_the_generations_of_a_run_are_those_that_took_a_snapshot(runs):
    """In the order of their numbers; a run whose key begins alike is another one."""
    for number in (10, 2, 0):
        runs.commit(Generation("classify_records/a", number), "s3://b/m", AT)
    runs.commit(Generation("classify_records/ab", 7), "s3://b/m", AT)
    assert runs.generations("classify_records/a") == [0, 2, 10]
    assert runs.generations("classify_records/nothing") == []
    assert runs.generations("classify_records") == []
    assert runs.generations("") == []


def test_ledgers_with_a_problem_are_found_among_newer_ones(runs):
    """Held or out of balance, newest first; each once, also where it is both."""
    held = {"held_because": "3 of 10 records failed"}
    made = [held, {}, {"selected": 9}, {**held, "selected": 9}, {}, {}]
    for number, values in enumerate(made):
        generation = Generation("classify_records/a", number)
        runs.put_ledger(dataclasses.replace(_ledger(generation, minutes=number), **values))
    found = runs.ledgers_with_problems(10)
    assert [ledger["generation"] for ledger in found] == [3, 2, 0]
    assert "refers_to" not in found[0]
    assert runs.ledgers_with_problems(2) == found[:2]


@pytest.mark.parametrize("problem", ["held_because", "imbalance"])
def test_ledgers_with_a_problem_are_read_by_an_index_of_these_alone(database, problem):
    """So their query costs the same with any number of other ledgers."""
    MongoRuns(database).ensure_indexes()
    found = database[LEDGERS].find({problem: {"$gt": ""}}).sort({"finished_at": -1, "_id": -1})
    plan = str(found.explain()["queryPlanner"]["winningPlan"])
    assert f"'mnist_ops_{problem}'" in plan
    assert "'isPartial': True" in plan


def test_the_newest_ledgers_are_asked_for_in_a_range_of_times(database, mongo_port):
    """The embedded server reads whatever a query matches before it applies the limit."""
    commands = _Queries()
    with MongoClient("127.0.0.1", mongo_port, directConnection=True, event_listeners=[commands]) as client:
        runs = MongoRuns(client[database.name])
        for number in range(3):
            runs.put_ledger(_ledger(Generation("cli/a", number), minutes=-number))
        assert len(runs.newest_ledgers(2, now=AT)) == 2
    assert commands.filters == [{"finished_at": {"$gte": AT - timedelta(hours=6)}}]


def test_lists_of_ledgers_are_read_by_an_index(database):
    """Newest first, of all DAGs and of one; making the indexes twice is safe."""
    store = MongoRuns(database)
    store.put_ledger(_ledger(ONE))
    assert store.ensure_indexes() == store.ensure_indexes()
    order = {"finished_at": -1, "_id": -1}
    for query in (
        {},
        {"dag": "cli"},
        {"dag": "cli", "finished_at": {"$lt": AT}},
        {"finished_at": {"$lt": AT}},
    ):
        plan = str(database[LEDGERS].find(query).sort(order).explain()["queryPlanner"]["winningPlan"])
        assert "'mnist_ops_newest" in plan, plan


@pytest.mark.usefixtures("hasty_threads")
def test_a_ledger_written_twice_at_once_is_kept_once(runs):
    """Two attempts at `reconcile` may overlap: neither fails, and there is one ledger."""
    for number in range(5):
        generation = Generation("classify_records/raced", number)
        _at_once([lambda g=generation: runs.put_ledger(_ledger(g)) for _ in range(THREADS)])
    assert len(list(runs.ledgers())) == 5


# Models


def _bundle(version: int, name: str = "lenet5", digest: str | None = None) -> BundleRef:
    return BundleRef(name, version, f"s3://b/models/{name}/{version}", digest or f"sha256:{version:064d}")


def _released(models, training: str, name: str = "lenet5") -> RegisteredModel:
    version = models.reserve(name, training)
    return models.register(RegisteredModel(_bundle(version, name), training, {"accuracy": 0.99}, AT))


def test_versions_count_up_from_one_within_a_name(models):
    """Each training gets the next number of its model's name."""
    assert [models.reserve("lenet5", training) for training in ("s3://t/1", "s3://t/2", "s3://t/3")] == [
        1,
        2,
        3,
    ]
    assert models.reserve("other", "s3://t/1") == 1
    assert models.reserve("lenet", "s3://t/4") == 1


def test_a_training_keeps_its_version(models):
    """A repeated release gets the same number, also after other reservations."""
    first = models.reserve("lenet5", "s3://t/1")
    models.reserve("lenet5", "s3://t/2")
    _released(models, "s3://t/1")
    assert models.reserve("lenet5", "s3://t/1") == first


@pytest.mark.usefixtures("hasty_threads")
def test_trainings_that_reserve_at_once_get_different_versions(models):
    """Sixteen trainings end at the same moment: sixteen numbers, without a gap."""
    versions = _at_once([lambda n=n: models.reserve("lenet5", f"s3://t/{n}") for n in range(THREADS)])
    assert sorted(versions) == list(range(1, THREADS + 1))


@pytest.mark.usefixtures("hasty_threads")
def test_a_training_that_reserves_twice_at_once_gets_one_version(models):
    """Overlapping attempts of one release share a number, also while other trainings reserve."""
    trainings = [f"s3://t/{number % 4}" for number in range(THREADS)]
    for turn in range(3):
        versions = _at_once([lambda t=t, turn=turn: models.reserve(f"lenet{turn}", t) for t in trainings])
        assert len(set(zip(trainings, versions, strict=True))) == 4


def test_a_reservation_between_read_and_insert_gives_a_training_no_second_number(database, mongo_port):
    """An attempt that reads before another attempt reserves, and inserts after, gets the other's number."""
    other = _Once("find", lambda: MongoModels(database).reserve("lenet5", "s3://t/1"))
    with MongoClient("127.0.0.1", mongo_port, event_listeners=[other]) as client:
        version = MongoModels(client[database.name]).reserve("lenet5", "s3://t/1")
    assert version == other.answer == 1


def test_a_model_is_registered_once(models):
    """The first registration of a version is kept; a second one returns it."""
    first = _released(models, "s3://t/1")
    second = RegisteredModel(
        _bundle(1, digest="sha256:2"), "s3://t/1", {"accuracy": 0.5}, AT + timedelta(days=1)
    )
    assert models.register(second) == first
    assert list(models.models("lenet5")) == [first]


def test_a_version_that_nobody_reserved_is_not_registered(models):
    """It is a permanent error, and no model appears."""
    with pytest.raises(Permanent):
        models.register(RegisteredModel(_bundle(1), "s3://t/1", {}, AT))
    assert list(models.models("lenet5")) == []


def test_a_version_of_another_training_is_not_registered(models):
    """The number belongs to the training that reserved it."""
    models.reserve("lenet5", "s3://t/1")
    with pytest.raises(Permanent):
        models.register(RegisteredModel(_bundle(1), "s3://t/2", {}, AT))
    assert list(models.models("lenet5")) == []
    assert _released(models, "s3://t/1").training == "s3://t/1"


def test_models_are_listed_by_name_oldest_first(models):
    """Only what is registered: neither reservations, nor the champion's alias, nor another name's."""
    released = [_released(models, f"s3://t/{number}") for number in range(11)]
    models.reserve("lenet5", "s3://t/unfinished")
    other = _released(models, "s3://t/1", name="lenet")
    models.promote(released[0].bundle, None, FIRST)
    assert list(models.models("lenet5")) == released
    assert list(models.models("lenet")) == [other]
    assert list(models.models("nobody")) == []


@pytest.mark.usefixtures("hasty_threads")
def test_attempts_that_register_at_once_agree(models):
    """Sixteen attempts register the same version with different bundles: one is kept, and all return it."""
    version = models.reserve("lenet5", "s3://t/1")
    results = _at_once(
        [
            lambda n=n: models.register(
                RegisteredModel(_bundle(version, digest=f"sha256:{n}"), "s3://t/1", {"accuracy": n / 100}, AT)
            )
            for n in range(THREADS)
        ]
    )
    assert [model == results[0] for model in results] == [True] * THREADS
    assert list(models.models("lenet5")) == [results[0]]


# The champion


def test_the_first_champion_is_promoted_where_there_was_none(models):
    """Before the promotion there is none."""
    assert models.champion("lenet5") is None
    assert models.promote(_bundle(1), None, FIRST)
    assert models.champion("lenet5") == _bundle(1)
    assert models.champion("lenet") is None


def test_a_champion_is_replaced_only_if_it_is_the_expected_one(models):
    """A promotion that compared with an older champion changes nothing."""
    models.promote(_bundle(1), None, FIRST)
    assert models.promote(_bundle(2), _bundle(1), FIRST)
    assert not models.promote(_bundle(3), _bundle(1), FIRST)
    assert not models.promote(_bundle(3), None, FIRST)
    assert models.champion("lenet5") == _bundle(2)


def test_a_champion_that_is_not_there_is_not_replaced(models):
    """Expecting a champion where there is none also counts as a lost race."""
    assert not models.promote(_bundle(2), _bundle(1), FIRST)
    assert models.champion("lenet5") is None


@pytest.mark.parametrize("expected", [None, _bundle(1), _bundle(2), _bundle(3)])
def test_promoting_the_champion_again_succeeds(models, expected):
    """With any expected champion: the first attempt of a retry may have succeeded."""
    models.promote(_bundle(1), None, FIRST)
    models.promote(_bundle(2), _bundle(1), FIRST)
    assert models.promote(_bundle(2), expected, FIRST)
    assert models.champion("lenet5") == _bundle(2)


def test_an_earlier_champion_can_come_back(models):
    """A former champion is promoted like any other bundle."""
    models.promote(_bundle(1), None, FIRST)
    models.promote(_bundle(2), _bundle(1), FIRST)
    assert models.promote(_bundle(1), _bundle(2), FIRST)
    assert models.champion("lenet5") == _bundle(1)


@pytest.mark.parametrize("before", [None, _bundle(99)], ids=["the first champion", "the next champion"])
@pytest.mark.usefixtures("hasty_threads")
def test_of_many_promotions_at_once_one_wins(models, before):
    """Sixteen challengers beat the same champion: one is promoted, and the others return False."""
    if before is not None:
        models.promote(before, None, FIRST)
    won = _at_once([lambda n=n: models.promote(_bundle(n), before, FIRST) for n in range(1, THREADS + 1)])
    assert won.count(True) == 1
    assert models.champion("lenet5") == _bundle(won.index(True) + 1)


@pytest.mark.usefixtures("hasty_threads")
def test_many_promotions_of_one_bundle_at_once_all_succeed(models):
    """Overlapping attempts of one release each find the bundle in production."""
    assert _at_once([lambda: models.promote(_bundle(1), None, FIRST)] * THREADS) == [True] * THREADS


def _promote(models, *versions: int) -> None:
    """Promote versions, each over the one before it."""
    for version in versions:
        assert models.promote(_bundle(version), models.champion("lenet5"), FIRST)


def _changes(models) -> list[tuple[str, int, int | None]]:
    """The history, newest first: action, champion, former champion."""
    return [
        (str(change.action), change.bundle.version, change.former.version if change.former else None)
        for change in models.history("lenet5")
    ]


def test_every_change_is_kept_with_who_when_and_why(models):
    """Newest first, of one name."""
    models.promote(_bundle(1, name="lenet"), None, BACK)
    models.promote(_bundle(1), None, FIRST)
    models.promote(_bundle(2), _bundle(1), SECOND)
    models.rollback("lenet5", BACK)
    assert list(models.history("lenet5")) == [
        ChampionChange(Action.ROLLBACK, _bundle(1), _bundle(2), BACK),
        ChampionChange(Action.PROMOTION, _bundle(2), _bundle(1), SECOND),
        ChampionChange(Action.PROMOTION, _bundle(1), None, FIRST),
    ]
    assert list(models.history("nobody")) == []


def test_a_promotion_that_changed_nothing_is_not_in_the_history(models):
    """Neither promotions that were refused nor those of the champion itself."""
    _promote(models, 1, 2)
    models.promote(_bundle(2), _bundle(2), SECOND)
    models.promote(_bundle(2), _bundle(1), SECOND)
    models.promote(_bundle(3), _bundle(1), SECOND)
    models.promote(_bundle(3), None, SECOND)
    assert _changes(models) == [("promotion", 2, 1), ("promotion", 1, None)]


def test_a_rollback_restores_the_former_champion(models):
    """The champion before the last promotion."""
    _promote(models, 1, 2)
    assert models.rollback("lenet5", BACK) == _bundle(1)
    assert models.champion("lenet5") == _bundle(1)


def test_a_second_rollback_goes_further_back(models):
    """It does not alternate between the last two."""
    _promote(models, 1, 2, 3)
    assert [models.rollback("lenet5", by) for by in (BACK, SECOND)] == [_bundle(2), _bundle(1)]
    assert _changes(models)[:2] == [("rollback", 1, 2), ("rollback", 2, 3)]


def test_a_rollback_after_a_rollback_and_a_promotion_skips_what_was_rolled_back(models):
    """Version 2 was rolled back, so no later rollback restores it."""
    _promote(models, 1, 2)
    models.rollback("lenet5", BACK)
    _promote(models, 3)
    assert models.rollback("lenet5", SECOND) == _bundle(1)


@pytest.mark.parametrize("versions", [(), (1,)], ids=["no champion", "the first champion"])
def test_where_there_is_no_former_champion_nothing_is_rolled_back(models, versions):
    """It is a permanent error that says so, and the champion stays."""
    _promote(models, *versions)
    with pytest.raises(Permanent, match="no former champion"):
        models.rollback("lenet5", BACK)
    assert models.champion("lenet5") == (_bundle(1) if versions else None)


def test_a_rollback_goes_no_further_back_than_the_first_champion(models):
    """Also when it is repeated."""
    _promote(models, 1, 2)
    models.rollback("lenet5", BACK)
    with pytest.raises(Permanent, match="no former champion"):
        models.rollback("lenet5", SECOND)
    assert models.champion("lenet5") == _bundle(1)


def test_a_rollback_that_is_repeated_goes_back_once(models):
    """A retry is recognised by who, when and why."""
    _promote(models, 1, 2, 3)
    assert [models.rollback("lenet5", BACK) for _ in range(3)] == [_bundle(2)] * 3
    assert models.champion("lenet5") == _bundle(2)


def test_a_rolled_back_bundle_can_be_promoted_again(models):
    """The next rollback then undoes that promotion."""
    _promote(models, 1, 2)
    models.rollback("lenet5", BACK)
    _promote(models, 2)
    assert models.rollback("lenet5", SECOND) == _bundle(1)


def _rolled_back(models, promotion: Promotion) -> BundleRef | None:
    """Roll back; None where another change came first."""
    try:
        return models.rollback("lenet5", promotion)
    except Transient:
        return None


@pytest.mark.usefixtures("hasty_threads")
def test_rollbacks_and_promotions_at_once_each_follow_the_one_before(models):
    """Each successful change is in the history, and starts from the champion of the entry before it."""
    _promote(models, 1, 2)
    calls = [
        *(lambda n=n: models.promote(_bundle(n), _bundle(2), SECOND) for n in range(3, THREADS + 1)),
        lambda: _rolled_back(models, BACK) is not None,
    ]
    winners = _at_once(calls).count(True)
    changes = models.history("lenet5")
    assert winners == len(changes) - 2 >= 1
    assert [newer.former for newer in changes[:-1]] == [older.bundle for older in changes[1:]]
    assert models.champion("lenet5") == changes[0].bundle


def test_a_rollback_of_another_champion_than_expected_changes_nothing(models):
    """Somebody promoted another one after a person looked."""
    _promote(models, 1, 2, 3)
    with pytest.raises(Transient, match="changed at the same moment"):
        models.rollback("lenet5", BACK, _bundle(2))
    assert models.rollback("lenet5", BACK, _bundle(3)) == _bundle(2)


@pytest.mark.usefixtures("hasty_threads")
def test_of_many_rollbacks_at_once_each_that_succeeds_goes_back_by_one(models):
    """None goes back twice, and the others fail."""
    _promote(models, *range(1, THREADS + 1))
    people = [Promotion(AT, f"person {number}", "why not") for number in range(THREADS - 2)]
    results = _at_once([lambda by=by: _rolled_back(models, by) for by in people])
    won = sorted(bundle.version for bundle in results if bundle is not None)
    assert won == list(range(THREADS - len(won), THREADS))
    assert len(won) >= 1
    assert models.champion("lenet5") == _bundle(won[0])


def test_a_promotion_after_a_rollback_has_read_the_history_wins_alone(database, mongo_port):
    """The rollback expected another champion: it changes nothing and fails."""
    _promote(MongoModels(database), 1, 2)
    other = _Once("find", lambda: MongoModels(database).promote(_bundle(3), _bundle(2), SECOND))
    with MongoClient("127.0.0.1", mongo_port, event_listeners=[other]) as client, pytest.raises(Transient):
        MongoModels(client[database.name]).rollback("lenet5", BACK)
    assert other.answer is True
    assert _changes(MongoModels(database)) == [
        ("promotion", 3, 2),
        ("promotion", 2, 1),
        ("promotion", 1, None),
    ]


def test_a_promotion_that_expects_a_rolled_back_champion_fails(models):
    """It was compared with a bundle that is no longer champion."""
    _promote(models, 1, 2)
    models.rollback("lenet5", BACK)
    assert not models.promote(_bundle(3), _bundle(2), SECOND)
    assert models.champion("lenet5") == _bundle(1)


# The gate's decisions

REFUSED = Decision(promote=False, why="refused: 3 against 3", p_value=1.0)
PASSED = Decision(promote=True, why="better: 30 against 3", p_value=1e-6, compared_with=_bundle(7))


def _registered(models, decision: Decision | None) -> RegisteredModel:
    return models.register(
        RegisteredModel(_bundle(models.reserve("lenet5", "s3://t/1")), "s3://t/1", {"a": 1.0}, AT, decision)
    )


@pytest.mark.parametrize("decision", [None, REFUSED, PASSED], ids=["none", "refused", "passed"])
def test_the_decision_of_the_gate_is_kept_with_the_model(models, decision):
    """With its numbers, also when the model is registered again."""
    assert _registered(models, decision).decision == decision
    assert _registered(models, decision).decision == decision
    (model,) = models.models("lenet5")
    assert model.decision == decision


def test_the_champion_of_a_decision_is_kept_as_a_reference(database):
    """Version, digest and URI, as in the alias; the name is the model's own."""
    _registered(MongoModels(database), PASSED)
    decision = database[MODELS].find_one({"version": 1})["decision"]
    champion = _bundle(7)
    assert decision["compared_with"] == {"version": 7, "uri": champion.uri, "digest": champion.digest}


def test_a_later_decision_replaces_the_earlier_one_and_nothing_else(models):
    """A registration without a decision keeps it."""
    first = _registered(models, REFUSED)
    later = models.register(
        RegisteredModel(_bundle(1, digest="sha256:x"), "s3://t/1", {}, AT + timedelta(days=1), PASSED)
    )
    assert later == dataclasses.replace(first, decision=PASSED)
    assert _registered(models, None) == later
    assert list(models.models("lenet5")) == [later]


# Data sets


def test_the_newest_data_set_is_the_one_built_last(datasets):
    """By their times, not by the order in which they were recorded."""
    assert datasets.newest_dataset() is None
    datasets.put_dataset("s3://b/old", AT)
    datasets.put_dataset("s3://b/new", AT + timedelta(hours=1))
    datasets.put_dataset("s3://b/between", AT + timedelta(minutes=1))
    assert datasets.newest_dataset() == "s3://b/new"


def test_a_data_set_may_be_recorded_again(datasets):
    """A retry records it once more; with a later time it becomes the newest."""
    datasets.put_dataset("s3://b/one", AT)
    datasets.put_dataset("s3://b/two", AT + timedelta(hours=1))
    datasets.put_dataset("s3://b/one", AT)
    assert datasets.newest_dataset() == "s3://b/two"
    datasets.put_dataset("s3://b/one", AT + timedelta(hours=2))
    assert datasets.newest_dataset() == "s3://b/one"


@pytest.mark.usefixtures("hasty_threads")
def test_a_data_set_recorded_many_times_at_once_is_no_error(datasets):
    """Attempts of one build overlap."""
    _at_once([lambda: datasets.put_dataset("s3://b/one", AT)] * THREADS)
    assert datasets.newest_dataset() == "s3://b/one"


# Errors


def test_each_registry_has_its_own_collection(database):
    """Named `mnist_ops_…`, so that no collection of the user is touched."""
    MongoRuns(database).commit(ONE, "s3://b/one", AT)
    MongoRuns(database).put_ledger(_ledger(ONE))
    MongoModels(database).reserve("lenet5", "s3://t/1")
    MongoDatasets(database).put_dataset("s3://b/one", AT)
    assert set(database.list_collection_names()) == {RUNS, LEDGERS, MODELS, DATASETS}
    assert all(name.startswith("mnist_ops_") for name in (RUNS, LEDGERS, MODELS, DATASETS))


CALLS = {
    "commit": lambda db: MongoRuns(db).commit(ONE, "s3://b/one", AT),
    "committed": lambda db: MongoRuns(db).committed(ONE),
    "release_hold": lambda db: MongoRuns(db).release_hold(ONE, "ada", "why", AT),
    "hold_release": lambda db: MongoRuns(db).hold_release(ONE),
    "put_ledger": lambda db: MongoRuns(db).put_ledger(_ledger(ONE)),
    "ledgers": lambda db: list(MongoRuns(db).ledgers()),
    "ledger": lambda db: MongoRuns(db).ledger(ONE),
    "newest_ledgers": lambda db: MongoRuns(db).newest_ledgers(2),
    "ledgers_with_problems": lambda db: MongoRuns(db).ledgers_with_problems(2),
    "generations": lambda db: MongoRuns(db).generations(ONE.run),
    "ensure_indexes": lambda db: MongoRuns(db).ensure_indexes(),
    "champion": lambda db: MongoModels(db).champion("lenet5"),
    "reserve": lambda db: MongoModels(db).reserve("lenet5", "s3://t/1"),
    "register": lambda db: MongoModels(db).register(RegisteredModel(_bundle(1), "s3://t/1", {}, AT)),
    "promote the first": lambda db: MongoModels(db).promote(_bundle(1), None, FIRST),
    "promote": lambda db: MongoModels(db).promote(_bundle(2), _bundle(1), FIRST),
    "rollback": lambda db: MongoModels(db).rollback("lenet5", BACK),
    "history": lambda db: MongoModels(db).history("lenet5"),
    "models": lambda db: MongoModels(db).models("lenet5"),
    "newest_dataset": lambda db: MongoDatasets(db).newest_dataset(),
    "put_dataset": lambda db: MongoDatasets(db).put_dataset("s3://b/one", AT),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_does_not_answer_is_transient(call):
    """Every call raises one of our errors."""
    with (
        MongoClient("127.0.0.1", 9, serverSelectionTimeoutMS=50) as client,
        pytest.raises(Transient),
    ):
        CALLS[call](client["contract"])


LOST = {
    "commit": ("insert", "s3://b/one"),
    "put_ledger": ("update", None),
    "reserve": ("insert", 1),
    "promote the first": ("insert", True),
    "put_dataset": ("update", None),
}


@pytest.mark.parametrize("retry", [True, False], ids=["driver retries", "we retry"])
@pytest.mark.parametrize("call", LOST)
def test_a_call_whose_reply_was_lost_can_be_made_again(database, mongo_port, call, retry):
    """The write succeeded but its reply was lost: repeated by the driver or by us, it has one effect."""
    command, expected = LOST[call]
    with (
        lossy_proxy(mongo_port) as proxy,
        MongoClient(
            "127.0.0.1", proxy.port, directConnection=True, retryWrites=retry, serverSelectionTimeoutMS=2_000
        ) as client,
    ):
        proxy.lose_reply_to(command)
        if not retry:
            with pytest.raises(MnistOpsError) as caught:
                CALLS[call](client[database.name])
            assert isinstance(caught.value, Transient)
        assert CALLS[call](client[database.name]) == expected
        assert proxy.lost == [command]
        assert CALLS[call](client[database.name]) == expected


def test_a_promotion_whose_reply_was_lost_succeeds_when_repeated(database, mongo_port):
    """The alias was moved once; the repeated attempt returns True."""
    MongoModels(database).promote(_bundle(1), None, FIRST)
    with (
        lossy_proxy(mongo_port) as proxy,
        MongoClient("127.0.0.1", proxy.port, directConnection=True, retryWrites=False) as client,
    ):
        proxy.lose_reply_to("findAndModify")
        with pytest.raises(Transient):
            CALLS["promote"](client[database.name])
        assert MongoModels(database).champion("lenet5") == _bundle(2)
        assert CALLS["promote"](client[database.name])


def test_a_rollback_whose_reply_was_lost_goes_back_once(database, mongo_port):
    """The alias was moved; the repeated rollback finds it done."""
    _promote(MongoModels(database), 1, 2, 3)
    with (
        lossy_proxy(mongo_port) as proxy,
        MongoClient("127.0.0.1", proxy.port, directConnection=True, retryWrites=False) as client,
    ):
        proxy.lose_reply_to("findAndModify")
        with pytest.raises(Transient):
            CALLS["rollback"](client[database.name])
        assert CALLS["rollback"](client[database.name]) == _bundle(2)
    assert MongoModels(database).champion("lenet5") == _bundle(2)
