"""The steps, bound to their ports once: operators, commands, tests and benchmarks call them here.

A step's own function takes each port as an argument, so that a reader sees what it touches. Nobody should
have to write those arguments twice: `Pipeline(adapters)` has a method for each step.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.keys import Generation, part_reference
from mnist_ops.domain.ports import (
    DatasetRegistry,
    GarbageStore,
    ImageFetcher,
    ModelRegistry,
    ObjectStore,
    RecordIndex,
    RecordStore,
    RegisteredModel,
    RunStore,
)
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.review_ports import AuditStore, ReviewStore
from mnist_ops.domain.selection import Selection, whole_milliseconds
from mnist_ops.settings import Settings, settings_of

if TYPE_CHECKING:
    from mnist_ops.domain.backfill_windows import BackfillRequest
    from mnist_ops.domain.drawn_audits import DrawnAudit
    from mnist_ops.domain.manifest import Manifest
    from mnist_ops.domain.outcomes import Ledger
    from mnist_ops.domain.retention import GcResult, Retention
    from mnist_ops.steps.artifacts.bundles import BundleCache, Classifier
    from mnist_ops.steps.draw_audit import AuditRequest
    from mnist_ops.steps.preview_backfill import BackfillPreview
    from mnist_ops.steps.promote import GateResult
    from mnist_ops.steps.run_page import Position, RecordFilter, RunPage
    from mnist_ops.steps.run_records import RunRecord
    from mnist_ops.steps.stored_images import StoredImage
    from mnist_ops.vision.config.schema import TrainingConfig
    from mnist_ops.vision.training.callbacks import TrainingCallback

# The estimate of a backfill comes from that many of the newest ledgers.
_LEDGERS_TO_ESTIMATE_FROM = 50


def utc_now() -> datetime:
    """The wall clock (UTC), in the whole milliseconds that MongoDB can hold."""
    return whole_milliseconds(datetime.now(UTC))


class Objects(ObjectStore, GarbageStore, Protocol):
    """The object store, whose garbage can be listed and deleted."""


class Ports(Protocol):
    """What a pipeline needs: `mnist_ops.wiring.Adapters`, or in tests the doubles of every port."""

    @property
    def settings(self) -> Settings:
        """What can be set."""

    @property
    def records(self) -> RecordStore:
        """The user's records."""

    @property
    def record_index(self) -> RecordIndex:
        """What pages ask of the records."""

    @property
    def objects(self) -> Objects:
        """Where every object is stored."""

    @property
    def runs(self) -> RunStore:
        """Commits and ledgers."""

    @property
    def models(self) -> ModelRegistry:
        """Released models."""

    @property
    def datasets(self) -> DatasetRegistry:
        """Built data sets."""

    @property
    def reviews(self) -> ReviewStore:
        """Which reviewer holds which record, and their answers."""

    @property
    def audits(self) -> AuditStore:
        """Random samples of predictions that people label."""

    def images(self) -> AbstractContextManager[ImageFetcher]:
        """A fetcher of images."""

    def load_classifier(self, folder: Path, digest: str) -> "Classifier":
        """Load a bundle from a folder, verified by its digest."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The steps of one deployment, in the order of the pipeline; each imports its step when it is called.

    URIs go in and come out. Every method raises what its step raises: see `mnist_ops.domain.errors`.

    Attributes:
        adapters: every port.
        now: the clock (UTC).
    """

    adapters: Ports
    now: Callable[[], datetime] = utc_now

    @property
    def settings(self) -> Settings:
        """The settings of the deployment."""
        return self.adapters.settings

    # Classifying records

    def count(self, selection: Selection) -> int:
        """How many records a snapshot would take now."""
        from mnist_ops.steps.snapshot import count

        ports = self.adapters
        return count(
            selection, records=ports.records, models=ports.models, model_name=self.settings.model_name
        )

    def preview_backfill(
        self, request: "BackfillRequest", within_s: float | None = None
    ) -> "BackfillPreview":
        """Count what each run of a backfill of `classify_records` would take, and estimate what it costs.

        Args:
            request: the backfill.
            within_s: how long the counting may take, in seconds; None for no limit.
        """
        from mnist_ops.domain.backfill_estimate import past_runs
        from mnist_ops.steps.preview_backfill import counting_within, preview_backfill
        from mnist_ops.steps.snapshot import compared_with

        ports = self.adapters
        champion = ports.models.champion(self.settings.model_name)

        def count(selection: Selection, limit_s: float | None = None) -> int:
            return ports.records.count(compared_with(champion, selection), limit_s)

        return preview_backfill(
            request,
            schedule=self.settings.classify_schedule,
            count=count if within_s is None else counting_within(count, within_s),
            former=past_runs(ports.runs.newest_ledgers(_LEDGERS_TO_ESTIMATE_FROM, now=self.now())),
            prices=self.settings.prices,
            now=self.now(),
        )

    def snapshot(self, generation: Generation, selection: Selection, attempt: str | None = None) -> str:
        """Take a snapshot, or adopt the one that the generation has; returns its manifest.

        Args:
            generation: whose snapshot it is.
            selection: which records it takes.
            attempt: names the attempt's folder; a new one for every call, by default a random one.
        """
        from mnist_ops.steps.snapshot import SnapshotRequest, snapshot

        ports = self.adapters
        request = SnapshotRequest(
            generation=generation,
            selection=selection,
            attempt=attempt or secrets.token_hex(8),
            model_name=self.settings.model_name,
            records_per_part=self.settings.records_per_part,
        )
        return snapshot(
            request, records=ports.records, objects=ports.objects, runs=ports.runs, models=ports.models
        )

    def manifest(self, uri: str) -> "Manifest":
        """Read a snapshot's manifest."""
        from mnist_ops.steps.artifacts.objects import read_manifest

        return read_manifest(self.adapters.objects, uri)

    def parts(self, manifest: str) -> list[str]:
        """A reference to each part of a snapshot, in order."""
        return [part_reference(manifest, part.number) for part in self.manifest(manifest).parts]

    def fetch(
        self, part: str, *, images: ImageFetcher | None = None, reuse_dataset: str | None = None
    ) -> str:
        """Fetch the images of a part; returns the image shard.

        Args:
            part: a reference to the part.
            images: an open fetcher, to keep its connections for the next part; by default one of its own.
            reuse_dataset: take images that this data set has for the same URL from there.
        """
        from mnist_ops.steps.fetch import fetch

        ports = self.adapters
        with ports.images() if images is None else nullcontext(images) as fetcher:
            return fetch(
                part,
                records=ports.records,
                objects=ports.objects,
                images=fetcher,
                now=self.now,
                reuse_dataset=reuse_dataset,
            )

    def classify(self, images: str, *, bundles: "BundleCache | None" = None) -> str:
        """Classify an image shard with the bundle that its snapshot pinned; returns the prediction shard.

        Args:
            images: the image shard.
            bundles: keeps the bundle for the next shard; by default it is loaded each time.
        """
        from mnist_ops.steps.classify import classify

        return classify(
            images,
            objects=self.adapters.objects,
            load=self.adapters.load_classifier,
            review_below=self.settings.review_below,
            threads=self.settings.threads,
            bundles=bundles,
        )

    def assess(self, manifest: str, predictions: Sequence[str]) -> str:
        """Compare a run's failures with the failure budget; returns the assessment."""
        from mnist_ops.steps.assess import assess

        ports = self.adapters
        return assess(
            manifest, predictions, objects=ports.objects, runs=ports.runs, budget=self.settings.budget
        )

    def publish(self, predictions: str, assessment: str) -> str:
        """Write a prediction shard into its records; returns the outcome shard."""
        from mnist_ops.steps.publish import publish

        ports = self.adapters
        return publish(predictions, assessment, records=ports.records, objects=ports.objects, now=self.now)

    def reconcile(self, manifest: str, outcomes: Sequence[str]) -> "Ledger":
        """Write the ledger of a run; fails unless every selected record is accounted for."""
        from mnist_ops.steps.reconcile import reconcile

        ports = self.adapters
        return reconcile(
            manifest,
            outcomes,
            records=ports.records,
            objects=ports.objects,
            runs=ports.runs,
            now=self.now,
            budget=self.settings.budget,
            prices=self.settings.prices,
            freshness_s=self.settings.freshness_s,
        )

    def release_hold(self, generation: Generation, who: str, why: str) -> None:
        """Allow a run over its failure budget to be published, once it is assessed again."""
        from mnist_ops.steps.assess import release_hold

        release_hold(generation, who, why, self.now(), runs=self.adapters.runs)

    def run_records(self, generation: Generation, refers_to: Sequence[str]) -> "Iterator[RunRecord]":
        """What a finished run did with each of its records; `refers_to` is that of its ledger."""
        from mnist_ops.steps.run_records import run_records

        return run_records(generation, refers_to, objects=self.adapters.objects)

    def run_page(
        self, ledger: Mapping[str, object], wanted: "RecordFilter", start: "Position", limit: int
    ) -> "RunPage":
        """A page of a finished run's records with probabilities and images.

        Args:
            ledger: the run's ledger, as stored.
            wanted: which records.
            start: where to begin.
            limit: the number of records, at most 100.
        """
        from mnist_ops.steps.run_page import run_page

        return run_page(
            Generation(str(ledger["run"]), cast("int", ledger["generation"])),
            cast("Sequence[str]", ledger["refers_to"]),
            wanted=wanted,
            start=start,
            limit=limit,
            objects=self.adapters.objects,
        )

    def image_of_record(self, run: object, generation: object, record_id: str) -> "StoredImage | None":
        """What a run got for a record's URL; None if it is not stored any more. See `stored_images`."""
        from mnist_ops.steps.stored_images import image_of_record

        return image_of_record(self.adapters.objects, run, generation, record_id)

    def images_of_records(
        self, run: object, generation: object, record_ids: Sequence[str]
    ) -> "dict[str, StoredImage]":
        """What a run got for the URLs of records, by id. See `stored_images`."""
        from mnist_ops.steps.stored_images import images_of_records

        return images_of_records(self.adapters.objects, run, generation, record_ids)

    def draw_audit(self, request: "AuditRequest") -> "DrawnAudit":
        """Draw a random sample of the predictions of runs, for people to label."""
        from mnist_ops.steps.draw_audit import draw_audit

        ports = self.adapters
        return draw_audit(
            request, runs=ports.runs, objects=ports.objects, audits=ports.audits, now=self.now()
        )

    # Training and releasing a model

    def build_dataset(self, manifest: str, images: Sequence[str]) -> str:
        """Build a data set from a labelled snapshot and its image shards; returns its manifest."""
        from mnist_ops.steps.build_dataset import build_dataset
        from mnist_ops.vision.data.minimums import Minimums

        ports = self.adapters
        return build_dataset(
            manifest,
            images,
            records=ports.records,
            objects=ports.objects,
            datasets=ports.datasets,
            budget=self.settings.budget,
            minimums=Minimums(test=self.settings.gate.fewest_examples),
        )

    def dataset_report(self, dataset: str, config: "TrainingConfig") -> str:
        """Count a data set's classes and rank the labels that are likely wrong; returns the report.

        Args:
            dataset: the data set's manifest.
            config: of the classifiers that find the unlikely labels.
        """
        from mnist_ops.steps.dataset_report import dataset_report

        return dataset_report(
            dataset, objects=self.adapters.objects, config=config, device=self.settings.device
        )

    def train(
        self, dataset: str, config: "TrainingConfig", callback: "TrainingCallback | None" = None
    ) -> str:
        """Train a network on a data set; returns the training. Needs no database."""
        from mnist_ops.steps.train import train

        return train(
            dataset,
            objects=self.adapters.objects,
            config=config,
            device=self.settings.device,
            callback=callback,
            folder=self.settings.training_dir,
        )

    def choose(self, trainings: Sequence[str]) -> str:
        """Compare the trainings of a sweep on the validation fold; returns their table."""
        from mnist_ops.steps.choose import choose

        return choose(trainings, objects=self.adapters.objects)

    def evaluate(self, training: str) -> str:
        """Measure a training, and the champion, on the same test fold; returns the evaluation."""
        from mnist_ops.steps.evaluate import evaluate

        ports = self.adapters
        return evaluate(
            training,
            objects=ports.objects,
            models=ports.models,
            model_name=self.settings.model_name,
            load=ports.load_classifier,
        )

    def release(self, evaluation: str) -> "GateResult":
        """Make a bundle of an evaluated training and register it, with what the gate says of it."""
        from mnist_ops.steps.release import release

        ports = self.adapters
        return release(
            evaluation,
            objects=ports.objects,
            models=ports.models,
            model_name=self.settings.model_name,
            gate=self.settings.gate,
            now=self.now,
        )

    def promote(self, gate_result: "GateResult", who: str, why: str | None = None) -> "GateResult":
        """Make a released model the champion, if the gate allows it."""
        from mnist_ops.steps.promote import promote_candidate

        return promote_candidate(gate_result, models=self.adapters.models, who=who, at=self.now(), why=why)

    def release_and_promote(self, evaluation: str, who: str) -> "GateResult":
        """Release, and promote unless the settings ask for a person's approval."""
        candidate = self.release(evaluation)
        return candidate if self.settings.require_approval else self.promote(candidate, who)

    def promote_version(
        self,
        model: RegisteredModel,
        promotion: Promotion,
        *,
        force: bool = False,
        champion: BundleRef | Literal["present"] | None = "present",
    ) -> bool:
        """Make a registered version the champion in place of `champion`; False if it was already."""
        from mnist_ops.steps.promote import promote_version

        return promote_version(
            model, models=self.adapters.models, promotion=promotion, force=force, champion=champion
        )

    def rollback(self, who: str, why: str, champion: BundleRef | None = None) -> BundleRef:
        """Restore the champion before the present one, which must be `champion` if given; and return it.

        Calls at different times are different rollbacks: the second one goes one champion further back.
        """
        promotion = Promotion(self.now(), who, why)
        return self.adapters.models.rollback(self.settings.model_name, promotion, champion)

    # Maintenance

    def collect_garbage(self, rule: "Retention", *, delete: bool) -> "GcResult":
        """Find the objects that nothing refers to; delete them if asked to."""
        from mnist_ops.steps.collect_garbage import ReferenceIndex, collect_garbage

        ports = self.adapters
        references = ReferenceIndex(ports.objects, ports.runs, ports.datasets)
        return collect_garbage(references, ports.objects, rule=rule, now=self.now(), delete=delete)


def pipeline_of_environment(environment: Mapping[str, str]) -> Pipeline:
    """The pipeline over the connections that the environment, or else the embedded stack, names."""
    from mnist_ops.wiring import adapters_of_environment

    return Pipeline(adapters_of_environment(settings_of(environment), environment))
