"""A released bundle: a folder with all that inference needs, verified before it is used.

    card.json            describes the model, with the sha256 of every other file
    weights.safetensors  the network's weights, for torch on CUDA
    model.onnx           the same network with its preprocessing, for ONNX Runtime on CPU
    abstention.npz       the detector of pictures that are not digits
    golden.npz           digits with their expected logits, probabilities and scores
    report/              pages for people; not part of the digest

Nothing here imports torch, and nothing is ever unpickled.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import safetensors
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from mnist_ops.domain.errors import Damaged, ObjectMissing, Permanent
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.validation import problems_of
from mnist_ops.vision.data.examples import CLASSES, SIDE
from mnist_ops.vision.data.minimums import MIN_GOLDEN
from mnist_ops.vision.evaluation.metrics import Evaluation
from mnist_ops.vision.inference.abstention import KEPT, Abstention
from mnist_ops.vision.inference.npz import npz_bytes, read_npz

CARD, WEIGHTS, MODEL, GOLDEN, ABSTENTION, REPORT = (
    "card.json", "weights.safetensors", "model.onnx", "golden.npz", "abstention.npz", "report",
)  # fmt: skip
FILES = (ABSTENTION, GOLDEN, MODEL, WEIGHTS)

_GOLDEN_ARRAYS = {
    "images": (np.uint8, (SIDE, SIDE)),
    "logits": (np.float32, (CLASSES,)),
    "probabilities": (np.float32, (CLASSES,)),
    "scores": (np.float32, ()),
}

_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(min_length=1, max_length=64)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputSpec(_Section):
    """The input of the exported model.

    Attributes:
        shape: N means any number of digits.
        ink: the value of full ink; the background is 0.
    """

    name: Literal["images"] = "images"
    dtype: Literal["uint8"] = "uint8"
    shape: tuple[Literal["N"], Literal[28], Literal[28]] = ("N", 28, 28)
    ink: Literal[255] = 255


class OutputSpec(_Section):
    """The output of the exported model, and how predictions are computed from it.

    Attributes:
        shape: N as in the input.
        probabilities: of the classes, (N, 10), each row summing to 1.
        label: the name of the most probable class.
        not_a_digit: whether the picture is not a digit; the score is that of inference/abstention.py.
    """

    name: Literal["logits"] = "logits"
    dtype: Literal["float32"] = "float32"
    shape: tuple[Literal["N"], Literal[10]] = ("N", 10)
    probabilities: Literal["softmax(logits / temperature)"] = "softmax(logits / temperature)"
    label: Literal["labels[argmax(logits)]"] = "labels[argmax(logits)]"
    not_a_digit: Literal["score(images, logits) > abstention.threshold"] = (
        "score(images, logits) > abstention.threshold"
    )


class AbstentionSpec(_Section):
    """When a picture counts as not a digit.

    Attributes:
        threshold: the highest score of a digit, as in abstention.npz.
        digits_kept: the share of the validation fold's digits that the threshold was set to keep.
    """

    threshold: float
    digits_kept: float = KEPT


class Architecture(_Section):
    """The architecture of the network.

    Attributes:
        parameters: the number of its trainable parameters.
        kernel_sizes: sides of the two convolutions' kernels, in pixels; None for the network's default.
    """

    network: _Name
    classes: int
    parameters: int
    kernel_sizes: tuple[int, int] | None = None


class Card(_Section):
    """The card of a bundle. It has no time and no version, so that the same training gives the same card.

    Attributes:
        hyperparameters: the config of the training.
        preprocessing_version: of the decoding that the training's digits were made with.
        labels: the human-readable label of each output.
        temperature: the logits are divided by it before the softmax; fitted on the validation fold.
        abstention: when a picture counts as not a digit.
        metrics: the evaluation of each fold, by the fold's name, with the probabilities at that temperature.
        dataset_digest: the digest of the dataset of the training.
        training_digest: the digest of dataset, config and weights.
        environment: versions of the packages that the bundle was made with.
        files: sha256 of every other file, hexadecimal, by name.
    """

    name: _Name
    architecture: Architecture
    hyperparameters: dict[str, JsonValue]
    input: InputSpec = InputSpec()
    output: OutputSpec = OutputSpec()
    preprocessing_version: int
    labels: tuple[_Name, ...]
    temperature: Annotated[float, Field(gt=0)] = 1.0
    abstention: AbstentionSpec
    metrics: dict[str, Evaluation]
    dataset_digest: str
    training_digest: str
    environment: dict[str, str]
    files: dict[str, _Sha256]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.labels) != CLASSES or len({name.casefold() for name in self.labels}) != CLASSES:
            raise ValueError(f"labels must be {CLASSES} distinct names, not {self.labels}")
        if self.architecture.classes != CLASSES:
            raise ValueError(f"architecture.classes must be {CLASSES}")
        if sorted(self.files) != sorted(FILES):
            raise ValueError(f"files must be {FILES}, not {tuple(self.files)}")
        return self

    def to_json(self) -> bytes:
        """The bytes of card.json; equal cards give equal bytes."""
        return (self.model_dump_json(indent=1) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Golden:
    """Digits with the outputs that the model must give, recorded when the bundle was made.

    Attributes:
        images: uint8 (N, 28, 28), N at least 20.
        logits: float32 (N, 10).
        probabilities: float32 (N, 10).
        scores: float32 (N,), higher for less like a digit.
        labels: the label table, so that a changed table in the card is detected.
    """

    images: NDArray[np.uint8]
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle in memory, so that the verified bytes are those that are used.

    Attributes:
        digest: "sha256:" and the hexadecimal sha256 of card.json.
        files: the bytes of every other file, by name.
    """

    card: Card
    digest: str
    files: Mapping[str, bytes]
    golden: Golden
    abstention: Abstention


def bundle_digest(folder: Path) -> str:
    """The digest of a bundle: "sha256:" and the sha256 of its card, which has those of all other files.

    Raises:
        ObjectMissing: the folder has no card.
    """
    return _digest(_read(folder, CARD))


def load_card(folder: Path, expected_digest: str | None = None) -> Card:
    """Read only a bundle's card.

    Raises:
        ObjectMissing: the folder has no card.
        Damaged: its digest is not `expected_digest`.
        Permanent: it is not a valid card.
    """
    return _card(_read(folder, CARD), folder, expected_digest)


def read_bundle(folder: Path, expected_digest: str | None = None) -> Bundle:
    """Read a bundle and verify every byte of it.

    Args:
        folder: the bundle's folder.
        expected_digest: the digest in the registry or the manifest; without it the bundle is only checked
            against its own card.

    Raises:
        ObjectMissing: a file of the bundle is missing.
        Damaged: the digest or a file's sha256 is not the expected one.
        Permanent: there are other files, a file is not in its format, or the card's threshold is not that
            of abstention.npz.
    """
    data = _read(folder, CARD)
    card = _card(data, folder, expected_digest)
    if unexpected := sorted({path.name for path in folder.iterdir()} - {CARD, REPORT, *FILES}):
        raise Permanent(f"{folder}: unexpected in a bundle: {', '.join(unexpected)}")
    files = {name: _read(folder, name) for name in FILES}
    for name, content in files.items():
        if (found := sha256_hex(content)) != card.files[name]:
            raise Damaged(f"{folder / name}: its sha256 is {found}, in the card it is {card.files[name]}")
    try:
        safetensors.deserialize(files[WEIGHTS])  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise Permanent(f"{folder / WEIGHTS}: not in the safetensors format: {error}") from error
    with _naming(folder / GOLDEN):
        golden = _golden(files[GOLDEN])
    with _naming(folder / ABSTENTION):
        abstention = Abstention.from_bytes(files[ABSTENTION])
    if abstention.threshold != card.abstention.threshold:
        raise Permanent(
            f"{folder / ABSTENTION}: its threshold is {abstention.threshold}, the card's "
            f"{card.abstention.threshold}"
        )
    return Bundle(card, _digest(data), files, golden, abstention)


def golden_bytes(golden: Golden) -> bytes:
    """The bytes of golden.npz."""
    labels = np.array(golden.labels)
    return npz_bytes({name: getattr(golden, name) for name in _GOLDEN_ARRAYS} | {"labels": labels})


def _golden(content: bytes) -> Golden:
    arrays = read_npz(content, (*_GOLDEN_ARRAYS, "labels"))
    labels = tuple(map(str, arrays.pop("labels").ravel()))
    count = len(np.atleast_1d(arrays["images"]))
    for name, (dtype, shape) in _GOLDEN_ARRAYS.items():
        if arrays[name].dtype != dtype or arrays[name].shape != (count, *shape):
            raise Permanent(f"{name} is {arrays[name].dtype} {arrays[name].shape}")
    if count < MIN_GOLDEN:
        raise Permanent(f"fewer than {MIN_GOLDEN} golden samples")
    return Golden(**arrays, labels=labels)  # type: ignore[arg-type]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's path before the message of a permanent error."""
    try:
        yield
    except Permanent as error:
        raise Permanent(f"{path}: {error}") from error


def _card(data: bytes, folder: Path, expected_digest: str | None) -> Card:
    if expected_digest is not None and (found := _digest(data)) != expected_digest:
        raise Damaged(f"{folder}: its digest is {found}, expected was {expected_digest}")
    try:
        return Card.model_validate_json(data)
    except ValidationError as error:
        raise Permanent(f"{folder / CARD}: {'; '.join(map(str, problems_of(error)))}") from error


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ObjectMissing(f"{folder / name}: a bundle needs this file: {error.strerror}") from error


def _digest(data: bytes) -> str:
    return f"sha256:{sha256_hex(data)}"
