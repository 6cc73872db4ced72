"""A bundle that is not what was released is refused with its reason, and no record is written.

Two kinds of attack: bytes changed in the object store, which the digests show; and forgeries whose every
digest was computed again, up to the one in the registry, which the formats and the golden samples show.
"""

import io
import json
import pickle
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.records import BundleRef
from mnist_ops.vision.inference.bundle import CARD, FILES
from tests.support.pipeline_in_memory import MODEL, PROMOTION, Pipeline

Files = dict[str, bytes]


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("something was unpickled",)


def files_of(pipeline: Pipeline, bundle: BundleRef) -> Files:
    """The bundle's files as they are in the object store."""
    return {name: pipeline.objects.get_bytes(f"{bundle.uri}/{name}") for name in (CARD, *FILES)}


def forge(pipeline: Pipeline, files: Files) -> BundleRef:
    """Put files into the store as another champion; every digest is that of its file."""
    card = json.loads(files[CARD])
    card["files"] |= {name: sha256_hex(content) for name, content in files.items() if name != CARD}
    files[CARD] = json.dumps(card).encode()
    uris = [pipeline.objects.put_bytes(f"models/forged/{name}", content) for name, content in files.items()]
    forged = BundleRef(MODEL, 2, uris[0].rpartition("/")[0], f"sha256:{sha256_hex(files[CARD])}")
    assert pipeline.models.promote(forged, pipeline.models.champion(MODEL), PROMOTION)
    return forged


def refuses(pipeline: Pipeline, error: type[Exception], match: str) -> None:
    """Run the pipeline: it must fail for that reason, and leave every document as it was."""
    for record_id in range(5):
        pipeline.add_digit(record_id, record_id)
    before = pipeline.records.documents()
    with pytest.raises(error, match=match):
        pipeline.run()
    assert pipeline.records.documents() == before
    assert not list(pipeline.objects.keys("predictions/"))
    assert not list(pipeline.objects.keys("outcomes/"))


def edited(files: Files, **changes: object) -> Files:
    """With fields of the card changed."""
    return files | {CARD: json.dumps(json.loads(files[CARD]) | changes).encode()}


def with_array(files: Files, name: str, array: str, change: Callable[[np.ndarray], object]) -> Files:
    """With one array of an npz file changed."""
    with np.load(io.BytesIO(files[name])) as found:
        arrays = dict(found)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays | {array: np.asarray(change(arrays[array]))})
    return files | {name: buffer.getvalue()}


def with_constant(
    files: Files, picked: Callable[[np.ndarray], bool], change: Callable[[np.ndarray], np.ndarray]
) -> Files:
    """With the first picked constant of the exported model changed."""
    model = onnx.load_model_from_string(files["model.onnx"])
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if picked(array):
            tensor.CopyFrom(onnx.numpy_helper.from_array(change(array).astype(array.dtype), tensor.name))
            return files | {"model.onnx": model.SerializeToString()}
    raise LookupError("the model has no such constant")


def is_mean(array: np.ndarray) -> bool:
    """Whether a constant is the mean that pixels are normalised by."""
    return array.size == 1 and bool(np.isclose(array, 0.1307).all())


def is_last_bias(array: np.ndarray) -> bool:
    """Whether a constant is added to the logits."""
    return array.shape == (10,)


def swapped(files: Files) -> Files:
    """With the names of two classes exchanged in the card."""
    labels = json.loads(files[CARD])["labels"]
    return edited(files, labels=[labels[1], labels[0], *labels[2:]])


BOMB = pickle.dumps(Bomb())
FORGERIES: dict[str, tuple[Callable[[Files], Files], str]] = {
    "swapped labels": (swapped, "label table is not that of the golden samples"),
    "another temperature": (lambda files: edited(files, temperature=7.0), "golden samples' probabilities"),
    "altered mean": (
        lambda files: with_constant(files, is_mean, lambda mean: mean + 0.01),
        "golden samples' logits differ",
    ),
    "NaN logits": (
        lambda files: with_constant(files, is_last_bias, lambda bias: bias * np.nan),
        "output of the network is not finite",
    ),
    "NaN expected": (
        lambda files: with_array(files, "golden.npz", "logits", lambda logits: logits * np.nan),
        "golden samples' logits differ",
    ),
    "altered abstention": (
        lambda files: with_array(files, "abstention.npz", "means", lambda means: means + np.float32(0.1)),
        "golden samples' scores differ",
    ),
    "another threshold": (
        lambda files: with_array(files, "abstention.npz", "threshold", lambda _: 99.0),
        "its threshold is",
    ),
    "wrong shapes": (
        lambda files: with_array(files, "golden.npz", "logits", lambda logits: logits[:, :9]),
        r"golden\.npz: logits is float32",
    ),
    "other input": (
        lambda files: edited(files, input={"shape": ["N", 32, 32]}),
        r"input\.shape",
    ),
    "pickle for weights": (lambda files: files | {"weights.safetensors": BOMB}, "safetensors format"),
    "pickle for a model": (lambda files: files | {"model.onnx": BOMB}, "ONNX Runtime rejects the model"),
    "pickle for arrays": (lambda files: files | {"abstention.npz": BOMB}, r"abstention\.npz: .*allow_pickle"),
    "pickle in an array": (
        lambda files: with_array(files, "golden.npz", "images", lambda _: np.array([Bomb()], object)),
        r"golden\.npz: .*allow_pickle",
    ),
    "pickle beside": (lambda files: files | {"weights.pt": BOMB}, "files must be"),
}


@pytest.mark.parametrize("name", [CARD, *FILES])
def test_one_changed_byte_is_refused(pipeline: Pipeline, champion: BundleRef, name: str) -> None:
    """In any file: the digest in the registry names the card, and the card names the others."""
    key = f"{champion.uri}/{name}".removeprefix(pipeline.objects.uri(""))
    content = bytearray(pipeline.objects.objects[key])
    content[len(content) // 2] ^= 1
    pipeline.objects.objects[key] = bytes(content)
    refuses(pipeline, Damaged, name)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(pipeline: Pipeline, champion: BundleRef, name: str) -> None:
    """By its name."""
    del pipeline.objects.objects[f"{champion.uri}/{name}".removeprefix(pipeline.objects.uri(""))]
    refuses(pipeline, Permanent, name)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_with_matching_digests_is_refused(
    pipeline: Pipeline, champion: BundleRef, forgery: str
) -> None:
    """Where all digests agree, formats and golden samples do not."""
    change, reason = FORGERIES[forgery]
    forge(pipeline, change(files_of(pipeline, champion)))
    refuses(pipeline, Permanent, reason)


def test_a_copy_that_nothing_was_changed_in_is_taken(pipeline: Pipeline, champion: BundleRef) -> None:
    """It is the changes that are refused, and not the way they are made here."""
    forged = forge(pipeline, files_of(pipeline, champion))
    pipeline.add_digit(1, 0)
    pipeline.run()
    prediction = pipeline.records.document(1)["prediction"]
    assert isinstance(prediction, dict)
    assert prediction["model"] == {"name": MODEL, "version": 2, "digest": forged.digest}
