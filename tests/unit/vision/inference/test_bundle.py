"""A bundle describes itself, and any change to it is detected before it is used."""

import hashlib
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from mnist_ops.domain.errors import Damaged, ObjectMissing, Permanent
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.inference.bundle import bundle_digest, load_card, read_bundle
from mnist_ops.vision.inference.classifier import load_classifier
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.torch_backend import torch_forward
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.models.weights import network_from, weights_of
from mnist_ops.vision.release.export import Provenance, write_bundle
from mnist_ops.vision.training.trainer import train


def forge(folder: Path, name: str, content: bytes) -> None:
    """Replace a file and write its new sha256 into the card, as a forger of the whole bundle would."""
    (folder / name).write_bytes(content)
    edit(folder, files=load(folder)["files"] | {name: hashlib.sha256(content).hexdigest()})


def load(folder: Path) -> Any:
    """The card as plain JSON."""
    return json.loads((folder / "card.json").read_bytes())


def edit(folder: Path, **changes: object) -> None:
    """Change fields of the card."""
    (folder / "card.json").write_text(json.dumps(load(folder) | changes))


def flip_a_bit(file: Path, position: float) -> None:
    """Change one bit of a file: of its first byte at position 0, of its last at 1."""
    content = bytearray(file.read_bytes())
    content[round(position * (len(content) - 1))] ^= 1
    file.write_bytes(content)


def arrays_in(file: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of an npz file."""
    with np.load(file) as arrays:
        return dict(arrays)


def packed(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """An npz file of any arrays, pickled ones included."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_a_bundle_is_complete(released: Path, trained: TrainedModel) -> None:
    """The card describes the model, and not when it was made."""
    card = read_bundle(released, bundle_digest(released)).card
    assert sorted(path.name for path in released.iterdir()) == [
        "abstention.npz", "card.json", "golden.npz", "model.onnx", "weights.safetensors",
    ]  # fmt: skip
    assert (card.name, card.architecture.parameters, card.temperature) == ("lenet5", 61_750, 1.0)
    assert card.hyperparameters == trained.config.model_dump(mode="json")
    assert card.labels[7] == "seven"
    assert card.metrics["validation"].samples == 300
    assert card.architecture.kernel_sizes is None
    assert card == load_card(released)


def test_a_card_describes_input_output_calibration_and_environment(released: Path) -> None:
    """Enough for a person who has only the folder."""
    card = load(released)
    assert card["input"] == {"name": "images", "dtype": "uint8", "shape": ["N", 28, 28], "ink": 255}
    output = card["output"]
    assert (output["name"], output["dtype"], output["shape"]) == ("logits", "float32", ["N", 10])
    assert output["probabilities"] == "softmax(logits / temperature)"
    assert card["temperature"] == 1.0
    assert {"nll", "brier", "ece", "accuracy_low", "accuracy_high"} <= set(card["metrics"]["validation"])
    assert card["abstention"]["digits_kept"] == 0.95
    assert {"python", "torch", "onnxruntime", "numpy"} <= set(card["environment"])


def test_the_same_training_gives_the_same_bundle(
    released: Path, trained: TrainedModel, validation: Examples, provenance: Provenance, tmp_path: Path
) -> None:
    """The digest depends neither on the time nor on the folder."""
    write_bundle(tmp_path / "again", trained, validation.images, load_card(released).metrics, provenance)
    assert bundle_digest(tmp_path / "again") == bundle_digest(released)


def test_the_model_names_no_folder_of_its_maker(released: Path) -> None:
    """The exporter's metadata with paths of source files is removed."""
    assert b".py" not in (released / "model.onnx").read_bytes()


def test_onnx_and_torch_agree(released: Path, trained: TrainedModel, held_out: Examples) -> None:
    """Also on digits that are not golden samples."""
    probabilities = softmax(torch_forward("lenet5", trained.weights, "cpu")(held_out.images), 1.0)
    np.testing.assert_allclose(
        load_classifier(released).probabilities(held_out.images), probabilities, atol=1e-5
    )


def test_a_bundle_is_not_written_over_another(
    released: Path, trained: TrainedModel, validation: Examples, provenance: Provenance
) -> None:
    """A released bundle never changes."""
    with pytest.raises(Permanent, match="not empty"):
        write_bundle(released, trained, validation.images, {}, provenance)


def test_too_few_golden_images_are_refused(
    trained: TrainedModel, validation: Examples, provenance: Provenance, tmp_path: Path
) -> None:
    """At least 20 are needed."""
    with pytest.raises(Permanent, match="at least 20"):
        write_bundle(tmp_path, trained, validation.images[:19], {}, provenance)


def test_another_digest_is_damage(bundle: Path) -> None:
    """The expected digest is that of the registry."""
    with pytest.raises(Damaged, match="expected was sha256:00"):
        read_bundle(bundle, "sha256:" + "0" * 64)


@pytest.mark.parametrize("position", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "golden.npz", "abstention.npz"])
def test_a_changed_file_is_damage(bundle: Path, name: str, position: float) -> None:
    """One changed bit is enough, at any position."""
    flip_a_bit(bundle / name, position)
    with pytest.raises(Damaged, match=name):
        load_classifier(bundle)


@pytest.mark.parametrize("position", [0.0, 0.5, 1.0])
def test_a_changed_card_is_damage(bundle: Path, position: float) -> None:
    """Registry and manifest hold the digest of the card."""
    digest = bundle_digest(bundle)
    flip_a_bit(bundle / "card.json", position)
    with pytest.raises(Damaged, match=digest):
        load_classifier(bundle, digest)


@pytest.mark.parametrize(
    "name", ["card.json", "model.onnx", "weights.safetensors", "golden.npz", "abstention.npz"]
)
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    """All five are needed, on CPU and on CUDA."""
    (bundle / name).unlink()
    with pytest.raises(ObjectMissing, match=name):
        read_bundle(bundle)


def test_an_unexpected_file_in_the_folder_is_refused(bundle: Path) -> None:
    """Only the report may be there as well."""
    (bundle / "report").mkdir()
    (bundle / "report" / "index.html").write_text("fine")
    read_bundle(bundle)
    (bundle / "weights.pt").write_bytes(pickle.dumps({}))
    with pytest.raises(Permanent, match=r"weights\.pt"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["zero"] * 10},
        {"labels": ["zero", "one"]},
        {"files": {}},
        {"files": {"../../etc/passwd": "0" * 64}},
        {"temperature": 0},
        {"temperature": "NaN"},
        {"made_at": "today"},
        {"architecture": {"network": "lenet5", "classes": 7, "parameters": 1}},
        {"architecture": {"network": "lenet5", "classes": 10, "parameters": 1, "kernel_sizes": [5]}},
        {"input": {"shape": ["N", 32, 32]}},
        {"input": {"dtype": "float32"}},
        {"output": {"shape": ["N", 47]}},
        {"output": {"probabilities": "softmax(logits)"}},
        {"abstention": {}},
        {"abstention": {"threshold": "NaN"}},
    ],
)
def test_a_bad_card_is_refused(bundle: Path, changes: dict[str, object]) -> None:
    """The error names the missing or invalid field."""
    edit(bundle, **changes)
    with pytest.raises(Permanent, match=next(iter(changes))):
        read_bundle(bundle)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", pickle.dumps({"name": "lenet5"})])
def test_junk_is_not_a_card(bundle: Path, content: bytes) -> None:
    """A card is JSON with fixed fields."""
    (bundle / "card.json").write_bytes(content)
    with pytest.raises(Permanent, match=r"card\.json"):
        read_bundle(bundle)


@pytest.mark.parametrize("name", ["weights.safetensors", "golden.npz", "model.onnx", "abstention.npz"])
def test_a_pickle_is_never_unpickled(bundle: Path, name: str) -> None:
    """Not even if its sha256 is in the card."""
    forge(bundle, name, pickle.dumps(_Bomb()))
    with pytest.raises(Permanent):
        load_classifier(bundle)


@pytest.mark.parametrize("name", ["golden.npz", "abstention.npz"])
def test_arrays_of_objects_are_refused(bundle: Path, name: str) -> None:
    """An npz can contain a pickle beside valid arrays."""
    arrays = arrays_in(bundle / name)
    for hidden in arrays:
        forge(bundle, name, packed(arrays | {hidden: np.array([_Bomb()], dtype=object)}))
        with pytest.raises(Permanent, match=f"{name}: .*allow_pickle=False"):
            load_classifier(bundle)


@pytest.mark.parametrize(
    ("name", "array", "change"),
    [
        ("golden.npz", "images", lambda images: images[:, :27]),
        ("golden.npz", "images", lambda images: images.astype(np.float32)),
        ("golden.npz", "images", lambda images: images[0, 0, 0]),
        ("golden.npz", "logits", lambda logits: logits[:, :9]),
        ("golden.npz", "logits", lambda logits: logits.astype(str)),
        ("golden.npz", "probabilities", lambda probabilities: probabilities[1:]),
        ("golden.npz", "scores", lambda scores: scores[:, None]),
        ("abstention.npz", "means", lambda means: means[:9]),
        ("abstention.npz", "whitening", lambda whitening: whitening[:, :, :-1]),
        ("abstention.npz", "whitening", lambda whitening: whitening.astype(str)),
        ("abstention.npz", "scales", lambda scales: scales[0]),
        ("abstention.npz", "scales", lambda scales: 0 * scales),
        ("abstention.npz", "threshold", lambda threshold: np.array([threshold])),
        ("abstention.npz", "threshold", lambda threshold: threshold * np.nan),
    ],
)
def test_arrays_of_other_shapes_and_types_are_refused(
    bundle: Path, name: str, array: str, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]
) -> None:
    """The error names the file, although its sha256 is the expected one."""
    arrays = arrays_in(bundle / name)
    forge(bundle, name, packed(arrays | {array: np.asarray(change(arrays[array]))}))
    with pytest.raises(Permanent, match=name):
        load_classifier(bundle)


@pytest.mark.parametrize("name", ["golden.npz", "abstention.npz"])
@pytest.mark.parametrize("lacking", [True, False])
def test_an_array_too_few_or_too_many_is_refused(bundle: Path, name: str, *, lacking: bool) -> None:
    """The set of arrays is fixed, and the message lists those that were found."""
    arrays = arrays_in(bundle / name) | {"more": np.zeros(1)}
    if lacking:
        del arrays["more"], arrays[next(iter(arrays))]
    forge(bundle, name, packed(arrays))
    with pytest.raises(Permanent, match="holds the arrays"):
        load_classifier(bundle)


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("something was unpickled",)


def forged_model(
    folder: Path, name: str, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    """Change one constant of the exported model."""
    model = onnx.load_model_from_string((folder / "model.onnx").read_bytes())
    tensor = next(tensor for tensor in model.graph.initializer if name in tensor.name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(tensor)), tensor.name))
    forge(folder, "model.onnx", model.SerializeToString())


def test_a_changed_mean_is_detected(bundle: Path) -> None:
    """The golden samples give other logits."""
    model = onnx.load_model_from_string((bundle / "model.onnx").read_bytes())
    means = [
        tensor.name
        for tensor in model.graph.initializer
        if np.isclose(onnx.numpy_helper.to_array(tensor), 0.1307).all()
    ]
    forged_model(bundle, means[0], lambda mean: (mean + 0.01).astype(mean.dtype))
    with pytest.raises(Permanent, match="golden samples' logits"):
        load_classifier(bundle)


def test_weights_that_are_not_finite_are_detected(bundle: Path) -> None:
    """NaN logits never become a label."""
    forged_model(bundle, "head.4.bias", lambda bias: np.full_like(bias, np.nan))
    with pytest.raises(Permanent, match="not finite"):
        load_classifier(bundle)


def test_a_swapped_label_table_is_detected(bundle: Path) -> None:
    """Ten distinct names in another order are a wrong table."""
    labels = load(bundle)["labels"]
    edit(bundle, labels=[labels[1], labels[0], *labels[2:]])
    with pytest.raises(Permanent, match="label table"):
        load_classifier(bundle)


def test_another_temperature_is_detected(bundle: Path) -> None:
    """The probabilities would no longer be the released ones."""
    edit(bundle, temperature=1.5)
    with pytest.raises(Permanent, match="golden samples' probabilities"):
        load_classifier(bundle)


def test_changed_torch_weights_are_detected(bundle: Path) -> None:
    """The weights for CUDA are checked on the same golden samples."""
    network = network_from("lenet5", (bundle / "weights.safetensors").read_bytes())
    with torch.no_grad():
        network.get_parameter("head.0.weight").mul_(1.01)
    golden = read_bundle(bundle).golden
    logits = torch_forward("lenet5", weights_of(network.state_dict()), "cpu")(golden.images)
    assert np.abs(logits - golden.logits).max() > 0.01


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_golden_samples_that_are_not_finite_are_refused(bundle: Path, value: float) -> None:
    """Every comparison with NaN is false, so they would prove nothing."""
    arrays = arrays_in(bundle / "golden.npz")
    forge(bundle, "golden.npz", packed(arrays | {"logits": np.full_like(arrays["logits"], value)}))
    with pytest.raises(Permanent, match="golden samples' logits"):
        load_classifier(bundle)


def test_another_threshold_is_detected(bundle: Path) -> None:
    """Card and arrays must have the same one."""
    forge(
        bundle, "abstention.npz", packed(arrays_in(bundle / "abstention.npz") | {"threshold": np.array(9.0)})
    )
    with pytest.raises(Permanent, match=r"its threshold is 9\.0"):
        load_classifier(bundle)


@pytest.mark.parametrize("array", ["means", "whitening", "scales"])
def test_a_changed_abstention_is_detected(bundle: Path, array: str) -> None:
    """The golden samples get other scores, even if every sha256 in the card is updated."""
    arrays = arrays_in(bundle / "abstention.npz")
    forge(bundle, "abstention.npz", packed(arrays | {array: arrays[array] * np.float32(1.1)}))
    with pytest.raises(Permanent, match="golden samples' scores"):
        load_classifier(bundle)


def test_a_bundle_of_another_network_names_its_kernel_sizes(
    training: Examples, validation: Examples, provenance: Provenance, tmp_path: Path
) -> None:
    """So that torch can build the same network for the weights."""
    config = TrainingConfig(network="conv20-50-500", kernel_sizes=(3, 7), epochs=1)
    other = train(
        Examples(training.images[:256], training.labels[:256]), validation, config, torch.device("cpu")
    )
    card = write_bundle(tmp_path, other, validation.images, {}, provenance)
    assert card.architecture.kernel_sizes == (3, 7)
    weights = read_bundle(tmp_path).files["weights.safetensors"]
    logits = torch_forward("conv20-50-500", weights, "cpu", (3, 7))(validation.images)
    np.testing.assert_allclose(load_classifier(tmp_path).logits(validation.images), logits, atol=1e-3)


def test_a_model_with_another_input_is_refused(bundle: Path) -> None:
    """Its interface is part of the contract."""
    model = onnx.load_model_from_string((bundle / "model.onnx").read_bytes())
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 32
    forge(bundle, "model.onnx", model.SerializeToString())
    with pytest.raises(Permanent):
        load_classifier(bundle)
