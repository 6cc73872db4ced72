"""A real training, and what its trackers recorded; TensorBoard's own reader reads the event files."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from mnist_ops.adapters.memory.tracker import InMemoryTracker
from mnist_ops.adapters.tracking.tensorboard import TensorBoardTracker
from mnist_ops.domain.labels import DIGITS
from mnist_ops.vision.config.networks import NETWORKS
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.models.architectures import build_network
from mnist_ops.vision.models.digit_classifier import DigitClassifier
from mnist_ops.vision.models.trained_model import EpochMetrics, StepMetrics, TrainedModel
from mnist_ops.vision.models.weights import network_from
from mnist_ops.vision.training.tracking import Experiment, Outcome, Status, Trackers
from mnist_ops.vision.training.tracking_callback import (
    EMBEDDED,
    WINDOW,
    TrackingCallback,
    environment_of,
    samples,
    spread,
    tracked,
)
from mnist_ops.vision.training.trainer import train

AT = datetime(2026, 11, 21, 7, 0, tzinfo=UTC)
CONFIG = TrainingConfig(network="mnistnet", epochs=2, batch_size=16)
LAYERS = [name for name, _ in build_network("mnistnet").named_parameters()]
STEPPED = {"train/loss", "train/learning_rate", "train/gradient_norm", "train/examples_per_s"}
QUEUED = {f"queues/train/loss/{name}" for name in ("mean", "std", "min", "max")}
VALIDATED = {"validation/accuracy", "validation/nll", "train/epoch", "train/epoch_loss"}
FINAL = {"best/epoch", "best/train_loss", "best/validation_accuracy", "best/validation_nll"}


def now() -> datetime:
    """A fixed clock."""
    return AT


def experiment(name: str = "mnistnet-one") -> Experiment:
    """The experiment of that training."""
    config = CONFIG.model_dump(mode="json")
    return Experiment(name, AT, config, "sha256:" + "a" * 64, "cpu", environment_of(torch.device("cpu")))


@dataclass(frozen=True)
class Tracked:
    """The training, and what was recorded of it."""

    trained: TrainedModel
    memory: InMemoryTracker
    folder: Path
    events: EventAccumulator


@pytest.fixture(scope="module")
def tracking(training: Examples, validation: Examples, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """Two epochs of 125 steps each, recorded by two trackers."""
    root, memory = tmp_path_factory.mktemp("tensorboard"), InMemoryTracker()
    trackers = Trackers([memory, TensorBoardTracker(root)])
    with tracked(trackers, experiment(), now) as callback:
        trained = train(training, validation, CONFIG, torch.device("cpu"), callback)
    assert [tracker.name for tracker in trackers.active] == ["in memory", "tensorboard"]
    folder = root / "mnistnet-one"
    events = EventAccumulator(str(folder), size_guidance={"histograms": 0, "scalars": 0, "tensors": 0})
    events.Reload()
    return Tracked(trained, memory, folder, events)


def test_every_scalar_is_in_the_event_file(tracking: Tracked) -> None:
    """With exactly these tags."""
    assert set(tracking.events.Tags()["scalars"]) == STEPPED | QUEUED | VALIDATED | FINAL


def test_scalars_are_recorded_at_their_steps(tracking: Tracked) -> None:
    """Validations at the ends of epochs, losses every 100 steps."""
    assert [event.step for event in tracking.events.Scalars("train/epoch")] == [125, 250]
    steps = {step for step, tag, _ in tracking.memory.logged_scalars if tag == "train/loss"}
    assert {event.step for event in tracking.events.Scalars("train/loss")} == steps
    assert steps >= {100, 200}


def test_validations_are_those_of_the_history(tracking: Tracked) -> None:
    """TensorBoard shows the numbers that the release reports."""
    accuracies = [event.value for event in tracking.events.Scalars("validation/accuracy")]
    assert accuracies == pytest.approx([epoch.validation_accuracy for epoch in tracking.trained.history])
    nlls = [event.value for event in tracking.events.Scalars("validation/nll")]
    assert nlls == pytest.approx([epoch.validation_nll for epoch in tracking.trained.history])


def test_the_queue_is_that_of_the_last_losses(tracking: Tracked) -> None:
    """Its mean, read back, is that of the last twenty recorded losses."""
    losses = [value for _, tag, value in tracking.memory.logged_scalars if tag == "train/loss"]
    mean = tracking.events.Scalars("queues/train/loss/mean")[-1].value
    assert mean == pytest.approx(np.mean(losses[-20:]))


def test_the_queue_holds_only_the_last_losses() -> None:
    """Those of `WINDOW` calls; a new loss replaces the oldest."""
    memory = InMemoryTracker()
    memory.begin(experiment())
    callback = TrackingCallback(memory, now)
    for step in range(WINDOW + 5):
        callback.on_steps(step, StepMetrics(float(step), 0.1, 1.0, 100.0))
    _, _, summary = memory.logged_queues[-1]
    assert (summary.count, summary.min, summary.max) == (WINDOW, 5.0, WINDOW + 4.0)


def test_weights_and_gradients_of_each_layer_are_there_once_an_epoch(tracking: Tracked) -> None:
    """Every parameter of the network, at the end of each epoch."""
    wanted = {f"{kind}/{layer}" for kind in ("weights", "gradients") for layer in LAYERS}
    assert set(tracking.events.Tags()["histograms"]) == wanted
    for tag in wanted:
        assert [event.step for event in tracking.events.Histograms(tag)] == [125, 250]


def test_a_histogram_counts_every_weight(tracking: Tracked) -> None:
    """No weight is outside of the bins."""
    network = build_network("mnistnet")
    for name, weights in network.named_parameters():
        last = tracking.events.Histograms(f"weights/{name}")[-1].histogram_value
        assert last.num == sum(last.bucket) == weights.numel()


def test_the_graph_has_every_layer(tracking: Tracked) -> None:
    """As TensorBoard's own type."""
    assert tracking.events.Tags()["graph"]
    graph = tracking.events.Graph()
    assert isinstance(graph, GraphDef)
    names = " ".join(node.name for node in graph.node)
    for module in ("features", "head", "Conv2d", "Linear", "MaxPool2d"):
        assert module in names


def test_the_sample_is_one_image_of_labelled_digits(tracking: Tracked) -> None:
    """Eight of each class, with its name below."""
    assert tracking.events.Tags()["images"] == ["training/sample"]
    (picture,) = tracking.events.Images("training/sample")
    assert (picture.step, picture.width, picture.height) == (0, 604, 596)  # 10 columns, 8 rows
    ((_, _, _, captions),) = tracking.memory.logged_images
    assert captions == DIGITS.names * 8


def test_the_projector_finds_vectors_labels_and_images(tracking: Tracked) -> None:
    """Every file that projector_config.pbtxt names exists and has one row per digit."""
    config = text_format.Parse(
        (tracking.folder / "projector_config.pbtxt").read_text(encoding="utf-8"), ProjectorConfig()
    )
    (embedding,) = config.embeddings
    assert embedding.tensor_name == f"validation:{tracking.trained.best_step:05d}"
    vectors = np.loadtxt(tracking.folder / embedding.tensor_path, delimiter="\t")
    labels = (tracking.folder / embedding.metadata_path).read_text(encoding="utf-8").splitlines()
    assert vectors.shape == (300, 84)
    assert len(labels) == 300
    assert set(labels) == set(DIGITS.names)
    assert list(embedding.sprite.single_image_dim) == [28, 28]
    with Image.open(tracking.folder / embedding.sprite.image_path) as sprite:
        assert sprite.size == (18 * 28, 18 * 28)  # the smallest square that holds 300


def test_the_sprite_has_the_digits_in_the_order_of_the_labels(
    tracking: Tracked, validation: Examples
) -> None:
    """A point of the projector shows the image of its own digit."""
    sprite_file = next(tracking.folder.rglob("sprite.png"))
    with Image.open(sprite_file) as picture:
        sprite = np.asarray(picture.convert("L"))
    for number in (0, 17, 18, 299):
        row, column = divmod(number, 18)
        cell = sprite[row * 28 : row * 28 + 28, column * 28 : column * 28 + 28]
        assert np.abs(cell.astype(int) - validation.images[number]).max() <= 1


def test_the_vectors_are_of_the_inputs_that_the_network_sees(tracking: Tracked, validation: Examples) -> None:
    """Resized and normalised as in training, with the weights that were kept."""
    model = DigitClassifier(network_from("mnistnet", tracking.trained.weights))
    with torch.inference_mode():
        wanted = model.network.embed(model.prepare(torch.tensor(validation.images))).numpy()
    ((_, _, vectors, labels, _),) = tracking.memory.logged_embeddings
    np.testing.assert_array_equal(vectors, wanted)
    assert list(labels) == [DIGITS.name(int(label)) for label in validation.labels]
    written = np.loadtxt(next(tracking.folder.rglob("tensors.tsv")), delimiter="\t")
    np.testing.assert_allclose(written, wanted, rtol=1e-6)


def test_the_hyperparameters_are_recorded_with_the_final_metrics(tracking: Tracked) -> None:
    """All fields of the config that have a value; the session has ended."""
    content = tracking.events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    found = metadata.parse_session_start_info_plugin_data(content).hparams
    assert found["network"].string_value == "mnistnet"
    assert found["epochs"].number_value == 2
    assert set(found) == {name for name, value in experiment().config.items() if value is not None}
    assert tracking.events.SummaryMetadata(metadata.SESSION_END_INFO_TAG).plugin_data.content
    best = tracking.events.Scalars("best/validation_accuracy")[0].value
    assert best == pytest.approx(tracking.trained.best.validation_accuracy)


def test_a_finished_training_is_recorded_with_its_best_epoch(tracking: Tracked) -> None:
    """Once."""
    (outcome,) = tracking.memory.outcomes
    assert (outcome.status, outcome.best_epoch) == (Status.FINISHED, tracking.trained.best.epoch)


def test_tracking_changes_no_weight(tracking: Tracked, training: Examples, validation: Examples) -> None:
    """A training without tracking gives the same weights, bit for bit."""
    untracked = train(training, validation, CONFIG, torch.device("cpu"))
    assert untracked.weights == tracking.trained.weights


def test_the_environment_has_versions_and_machine() -> None:
    """All values are text."""
    found = environment_of(torch.device("cpu"))
    assert found["torch"] == torch.__version__
    assert {"python", "numpy", "mnist_ops", "host", "cpus", "platform"} <= set(found)
    assert json.dumps(found)


def test_a_training_that_fails_is_recorded_with_its_error() -> None:
    """The error is raised again."""
    memory = InMemoryTracker()
    with pytest.raises(ZeroDivisionError), tracked(memory, experiment(), now):
        raise ZeroDivisionError("by zero")
    (outcome,) = memory.outcomes
    assert (outcome.status, outcome.why) == (Status.FAILED, "ZeroDivisionError: by zero")


def test_a_training_that_is_interrupted_is_recorded_as_such() -> None:
    """As by Ctrl-C, or by Airflow."""
    memory = InMemoryTracker()
    with pytest.raises(KeyboardInterrupt), tracked(memory, experiment(), now):
        raise KeyboardInterrupt
    assert memory.outcomes[0].status is Status.INTERRUPTED


def test_weights_are_recorded_at_the_end_of_an_epoch_and_not_at_each_validation() -> None:
    """Their histograms are large."""
    memory = InMemoryTracker()
    memory.begin(experiment())
    callback, model = TrackingCallback(memory, now), DigitClassifier(build_network("mnistnet"))
    callback.on_validation(EpochMetrics(1, 50, 0.5, 0.9, 0.3), model)
    callback.on_gradients(100, model)
    callback.on_validation(EpochMetrics(1, 100, 0.4, 0.95, 0.2), model)
    callback.on_validation(EpochMetrics(2, 150, 0.3, 0.96, 0.2), model)
    assert {step for step, tag, _ in memory.logged_histograms if tag.startswith("weights/")} == {100}


@pytest.mark.parametrize("network", NETWORKS)
def test_the_graph_of_every_network_can_be_recorded(network: str, tmp_path: Path) -> None:
    """Tracing works for each of them and raises no warning."""
    tracker = TensorBoardTracker(tmp_path)
    tracker.begin(experiment(network))
    tracker.graph(build_network(network).eval(), torch.zeros(1, 1, 32, 32))
    tracker.finish(Outcome(Status.FINISHED, AT, 1))
    events = EventAccumulator(str(tmp_path / network))
    events.Reload()
    assert len(events.Graph().node) > 10


def test_samples_rotate_through_the_classes() -> None:
    """So that a row of the grid shows zero to nine."""
    labels = np.array([0, 0, 0, 1, 5, 5], dtype=np.uint8)
    assert samples(labels, 2).tolist() == [0, 3, 4, 1, 5]


@pytest.mark.parametrize(("count", "expected"), [(5, 5), (EMBEDDED, EMBEDDED), (12_345, EMBEDDED)])
def test_no_more_digits_are_embedded_than_a_browser_can_move(count: int, expected: int) -> None:
    """They are evenly spaced over the fold."""
    chosen = spread(count, EMBEDDED)
    assert len(set(chosen.tolist())) == expected
    assert (chosen[0], chosen[-1]) == (0, count - 1)
