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
from mnist_ops.vision.bundle import bundle_digest, load_card, read_bundle, verify_bundle
from mnist_ops.vision.examples import Examples
from mnist_ops.vision.export import Provenance, write_bundle
from mnist_ops.vision.inference import load_classifier, softmax
from mnist_ops.vision.torch_inference import torch_forward
from mnist_ops.vision.training import TrainedModel
from mnist_ops.vision.weights import network_from, weights_of


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


def test_a_bundle_is_whole(released: Path, trained: TrainedModel) -> None:
    """The card says what the model is, and nothing of when it was made."""
    card = verify_bundle(released, bundle_digest(released))
    assert sorted(path.name for path in released.iterdir()) == [
        "card.json", "golden.npz", "model.onnx", "weights.safetensors",
    ]  # fmt: skip
    assert (card.name, card.architecture.parameters, card.temperature) == ("lenet5", 61_750, 1.0)
    assert card.hyperparameters == trained.config.model_dump(mode="json")
    assert card.labels[7] == "seven"
    assert card.metrics["validation"].samples == 300
    assert card == load_card(released)


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
    np.testing.assert_allclose(load_classifier(released).classify(held_out.images), probabilities, atol=1e-5)


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
        verify_bundle(bundle, "sha256:" + "0" * 64)


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "golden.npz"])
def test_a_changed_file_is_damage(bundle: Path, name: str) -> None:
    """One flipped bit is enough."""
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(Damaged, match=name):
        verify_bundle(bundle)


@pytest.mark.parametrize("name", ["card.json", "model.onnx", "weights.safetensors", "golden.npz"])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    """All four are needed, wherever inference runs."""
    (bundle / name).unlink()
    with pytest.raises(ObjectMissing, match=name):
        verify_bundle(bundle)


def test_a_stranger_in_the_folder_is_refused(bundle: Path) -> None:
    """Only the report may stand beside."""
    (bundle / "report").mkdir()
    (bundle / "report" / "index.html").write_text("fine")
    verify_bundle(bundle)
    (bundle / "weights.pt").write_bytes(pickle.dumps({}))
    with pytest.raises(Permanent, match=r"weights\.pt"):
        verify_bundle(bundle)


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
    ],
)
def test_a_bad_card_is_refused(bundle: Path, changes: dict[str, object]) -> None:
    """What the card lacks or makes up is named."""
    edit(bundle, **changes)
    with pytest.raises(Permanent, match=next(iter(changes))):
        verify_bundle(bundle)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", pickle.dumps({"name": "lenet5"})])
def test_junk_is_no_card(bundle: Path, content: bytes) -> None:
    """A card is JSON of one form."""
    (bundle / "card.json").write_bytes(content)
    with pytest.raises(Permanent, match=r"card\.json"):
        verify_bundle(bundle)


@pytest.mark.parametrize("name", ["weights.safetensors", "golden.npz", "model.onnx"])
def test_a_pickle_is_never_unpickled(bundle: Path, name: str) -> None:
    """Not even where the card promises it."""
    forge(bundle, name, pickle.dumps(_Bomb()))
    with pytest.raises(Permanent):
        load_classifier(bundle)


def test_golden_samples_of_objects_are_refused(bundle: Path) -> None:
    """An npz may hide a pickle inside."""
    buffer = io.BytesIO()
    np.savez(buffer, images=np.array([_Bomb()], dtype=object))
    forge(bundle, "golden.npz", buffer.getvalue())
    with pytest.raises(Permanent, match=r"golden\.npz"):
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
    logits = torch_forward("lenet5", weights_of(network), "cpu")(golden.images)
    assert np.abs(logits - golden.logits).max() > 0.01


def test_a_model_with_another_input_is_refused(bundle: Path) -> None:
    """Its interface is part of the contract."""
    model = onnx.load_model_from_string((bundle / "model.onnx").read_bytes())
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 32
    forge(bundle, "model.onnx", model.SerializeToString())
    with pytest.raises(Permanent):
        load_classifier(bundle)
