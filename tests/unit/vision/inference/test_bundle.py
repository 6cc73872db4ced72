"""A bundle says what it is, and any change to it is noticed before it is used."""

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
from mnist_ops.vision.inference.classifier import load_classifier, softmax
from mnist_ops.vision.models.torch_backend import torch_forward
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.models.weights import network_from, weights_of
from mnist_ops.vision.release.export import Provenance, write_bundle
from mnist_ops.vision.training.trainer import train


def forge(folder: Path, name: str, content: bytes) -> None:
    """Replace a file and promise its new sha256, as a forger of the whole bundle would."""
    (folder / name).write_bytes(content)
    edit(folder, files=load(folder)["files"] | {name: hashlib.sha256(content).hexdigest()})


def load(folder: Path) -> Any:
    """The card as plain JSON."""
    return json.loads((folder / "card.json").read_bytes())


def edit(folder: Path, **changes: object) -> None:
    """Change fields of the card."""
    (folder / "card.json").write_text(json.dumps(load(folder) | changes))


def flip_a_bit(file: Path, place: float) -> None:
    """Change one bit of a file: of its first byte at 0, of its last at 1."""
    content = bytearray(file.read_bytes())
    content[round(place * (len(content) - 1))] ^= 1
    file.write_bytes(content)


def arrays_in(file: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of an npz file."""
    with np.load(file) as arrays:
        return dict(arrays)


def packed(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """An npz file of arrays, whatever they hold."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_a_bundle_is_whole(released: Path, trained: TrainedModel) -> None:
    """The card says what the model is, and nothing of when it was made."""
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
    """Enough for somebody who has nothing but the folder."""
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
    """Neither clocks nor folders enter the digest."""
    write_bundle(tmp_path / "again", trained, validation.images, load_card(released).metrics, provenance)
    assert bundle_digest(tmp_path / "again") == bundle_digest(released)


def test_the_model_names_no_folder_of_its_maker(released: Path) -> None:
    """The exporter's notes are gone."""
    assert b".py" not in (released / "model.onnx").read_bytes()


def test_onnx_and_torch_agree(released: Path, trained: TrainedModel, held_out: Examples) -> None:
    """On digits that are not golden, too."""
    probabilities = softmax(torch_forward("lenet5", trained.weights, "cpu")(held_out.images), 1.0)
    np.testing.assert_allclose(
        load_classifier(released).probabilities(held_out.images), probabilities, atol=1e-5
    )


def test_a_bundle_is_not_written_over_another(
    released: Path, trained: TrainedModel, validation: Examples, provenance: Provenance
) -> None:
    """Released is released."""
    with pytest.raises(Permanent, match="empty folder"):
        write_bundle(released, trained, validation.images, {}, provenance)


def test_too_few_golden_images_are_refused(
    trained: TrainedModel, validation: Examples, provenance: Provenance, tmp_path: Path
) -> None:
    """Twenty at least."""
    with pytest.raises(Permanent, match="at least 20"):
        write_bundle(tmp_path, trained, validation.images[:19], {}, provenance)


def test_another_digest_is_damage(bundle: Path) -> None:
    """The registry's digest decides."""
    with pytest.raises(Damaged, match="promised was sha256:00"):
        read_bundle(bundle, "sha256:" + "0" * 64)


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "golden.npz", "abstention.npz"])
def test_a_changed_file_is_damage(bundle: Path, name: str, place: float) -> None:
    """One flipped bit is enough, wherever it is."""
    flip_a_bit(bundle / name, place)
    with pytest.raises(Damaged, match=name):
        load_classifier(bundle)


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_changed_card_is_damage(bundle: Path, place: float) -> None:
    """The digest that the registry and the manifest have is the card's."""
    digest = bundle_digest(bundle)
    flip_a_bit(bundle / "card.json", place)
    with pytest.raises(Damaged, match=digest):
        load_classifier(bundle, digest)


@pytest.mark.parametrize(
    "name", ["card.json", "model.onnx", "weights.safetensors", "golden.npz", "abstention.npz"]
)
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    """All five are needed, wherever inference runs."""
    (bundle / name).unlink()
    with pytest.raises(ObjectMissing, match=name):
        read_bundle(bundle)


def test_a_stranger_in_the_folder_is_refused(bundle: Path) -> None:
    """Only the report may stand beside."""
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
    """What the card lacks or makes up is named."""
    edit(bundle, **changes)
    with pytest.raises(Permanent, match=next(iter(changes))):
        read_bundle(bundle)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", pickle.dumps({"name": "lenet5"})])
def test_junk_is_no_card(bundle: Path, content: bytes) -> None:
    """A card is JSON of one form."""
    (bundle / "card.json").write_bytes(content)
    with pytest.raises(Permanent, match=r"card\.json"):
        read_bundle(bundle)


@pytest.mark.parametrize("name", ["weights.safetensors", "golden.npz", "model.onnx", "abstention.npz"])
def test_a_pickle_is_never_unpickled(bundle: Path, name: str) -> None:
    """Not even where the card promises it."""
    forge(bundle, name, pickle.dumps(_Bomb()))
    with pytest.raises(Permanent):
        load_classifier(bundle)


@pytest.mark.parametrize("name", ["golden.npz", "abstention.npz"])
def test_arrays_of_objects_are_refused(bundle: Path, name: str) -> None:
    """An npz may hide a pickle inside, beside arrays that are in order."""
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
    """Each by the file's name, though its sha256 is the promised one."""
    arrays = arrays_in(bundle / name)
    forge(bundle, name, packed(arrays | {array: np.asarray(change(arrays[array]))}))
    with pytest.raises(Permanent, match=name):
        load_classifier(bundle)


@pytest.mark.parametrize("name", ["golden.npz", "abstention.npz"])
@pytest.mark.parametrize("lacking", [True, False])
def test_an_array_too_few_or_too_many_is_refused(bundle: Path, name: str, *, lacking: bool) -> None:
    """There is one set of arrays, and the message lists what was found."""
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


def test_an_altered_mean_is_noticed(bundle: Path) -> None:
    """The golden samples come out otherwise."""
    model = onnx.load_model_from_string((bundle / "model.onnx").read_bytes())
    means = [
        tensor.name
        for tensor in model.graph.initializer
        if np.isclose(onnx.numpy_helper.to_array(tensor), 0.1307).all()
    ]
    forged_model(bundle, means[0], lambda mean: (mean + 0.01).astype(mean.dtype))
    with pytest.raises(Permanent, match="golden samples' logits"):
        load_classifier(bundle)


def test_weights_that_are_not_finite_are_noticed(bundle: Path) -> None:
    """NaN logits never become a label."""
    forged_model(bundle, "head.4.bias", lambda bias: np.full_like(bias, np.nan))
    with pytest.raises(Permanent, match="not finite"):
        load_classifier(bundle)


def test_a_swapped_label_table_is_noticed(bundle: Path) -> None:
    """Ten distinct names in another order are still the wrong table."""
    labels = load(bundle)["labels"]
    edit(bundle, labels=[labels[1], labels[0], *labels[2:]])
    with pytest.raises(Permanent, match="label table"):
        load_classifier(bundle)


def test_another_temperature_is_noticed(bundle: Path) -> None:
    """Probabilities would no longer be those that were released."""
    edit(bundle, temperature=1.5)
    with pytest.raises(Permanent, match="golden samples' probabilities"):
        load_classifier(bundle)


def test_changed_torch_weights_are_noticed(bundle: Path) -> None:
    """What CUDA would load is checked against the same golden samples."""
    network = network_from("lenet5", (bundle / "weights.safetensors").read_bytes())
    with torch.no_grad():
        network.get_parameter("head.0.weight").mul_(1.01)
    golden = read_bundle(bundle).golden
    logits = torch_forward("lenet5", weights_of(network.state_dict()), "cpu")(golden.images)
    assert np.abs(logits - golden.logits).max() > 0.01


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_golden_samples_that_expect_no_number_are_refused(bundle: Path, value: float) -> None:
    """Nothing equals NaN, so nothing could be shown by them."""
    arrays = arrays_in(bundle / "golden.npz")
    forge(bundle, "golden.npz", packed(arrays | {"logits": np.full_like(arrays["logits"], value)}))
    with pytest.raises(Permanent, match="golden samples' logits"):
        load_classifier(bundle)


def test_another_threshold_is_noticed(bundle: Path) -> None:
    """Card and arrays must agree on it."""
    forge(
        bundle, "abstention.npz", packed(arrays_in(bundle / "abstention.npz") | {"threshold": np.array(9.0)})
    )
    with pytest.raises(Permanent, match=r"its threshold is 9\.0"):
        load_classifier(bundle)


@pytest.mark.parametrize("array", ["means", "whitening", "scales"])
def test_an_altered_abstention_is_noticed(bundle: Path, array: str) -> None:
    """The golden samples score otherwise, even where every sha256 is promised anew."""
    arrays = arrays_in(bundle / "abstention.npz")
    forge(bundle, "abstention.npz", packed(arrays | {array: arrays[array] * np.float32(1.1)}))
    with pytest.raises(Permanent, match="golden samples' scores"):
        load_classifier(bundle)


def test_a_bundle_of_another_network_names_its_kernel_sizes(
    training: Examples, validation: Examples, provenance: Provenance, tmp_path: Path
) -> None:
    """Whoever loads the weights into torch builds the same network."""
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
