"""A released bundle: all that inference needs, verified before it is used.

    card.json            what the model is, and the sha256 of every other file
    weights.safetensors  the network's weights, for torch on CUDA
    model.onnx           the same network with its preprocessing inside, for ONNX Runtime
    abstention.npz       what tells digits from other pictures
    golden.npz           digits with the logits, probabilities and scores they must give
    report/              pages for people; not part of the digest

Nothing here imports torch, and nothing is ever unpickled.
"""

import hashlib
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
from mnist_ops.validation import problems_of
from mnist_ops.vision.data.examples import CLASSES, SIDE
from mnist_ops.vision.evaluation.metrics import Evaluation
from mnist_ops.vision.inference.abstention import KEPT, Abstention
from mnist_ops.vision.inference.npz import arrays_of, npz_bytes

CARD, WEIGHTS, MODEL, GOLDEN, ABSTENTION, REPORT = (
    "card.json", "weights.safetensors", "model.onnx", "golden.npz", "abstention.npz", "report",
)  # fmt: skip
FILES = (ABSTENTION, GOLDEN, MODEL, WEIGHTS)
MIN_GOLDEN = 20

_GOLDEN_ARRAYS = {
    "images": (np.uint8, (SIDE, SIDE)),
    "logits": (np.float32, (CLASSES,)),
    "probabilities": (np.float32, (CLASSES,)),
    "scores": (np.float32, ()),
}

_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(min_length=1, max_length=64)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputSpec(_Part):
    """What the exported model takes.

    Attributes:
        name: of the model's input.
        dtype: of its elements.
        shape: N stands for any number of digits.
        ink: the value of full ink; the background is 0.
    """

    name: Literal["images"] = "images"
    dtype: Literal["uint8"] = "uint8"
    shape: tuple[Literal["N"], Literal[28], Literal[28]] = ("N", 28, 28)
    ink: Literal[255] = 255


class OutputSpec(_Part):
    """What the exported model gives, and what is made of it.

    Attributes:
        name: of the model's output.
        dtype: of its elements.
        shape: N as in the input.
        probabilities: of the classes, (N, 10), each row summing to 1.
        label: the name of the likeliest class.
        not_a_digit: whether the picture is none; the score is that of vision/abstention.py.
    """

    name: Literal["logits"] = "logits"
    dtype: Literal["float32"] = "float32"
    shape: tuple[Literal["N"], Literal[10]] = ("N", 10)
    probabilities: Literal["softmax(logits / temperature)"] = "softmax(logits / temperature)"
    label: Literal["labels[argmax(logits)]"] = "labels[argmax(logits)]"
    not_a_digit: Literal["score(images, logits) > abstention.threshold"] = (
        "score(images, logits) > abstention.threshold"
    )


class AbstentionSpec(_Part):
    """When a picture counts as no digit.

    Attributes:
        threshold: of the score, as in abstention.npz.
        digits_kept: the share of the validation fold's digits that it was set to keep.
    """

    threshold: float
    digits_kept: float = KEPT


class Architecture(_Part):
    """The network: its registered name, its classes, its trainable parameters, its kernel sizes.

    The kernel sizes are the sides of the two convolutions' kernels, in pixels; None for the network's own.
    """

    network: _Name
    classes: int
    parameters: int
    kernel_sizes: tuple[int, int] | None = None


class Card(_Part):
    """The card of a bundle. It holds no clock and no version: the same training gives the same card.

    Attributes:
        name: the network's name.
        architecture: the network.
        hyperparameters: the training's config.
        input: what the model takes.
        output: what it gives.
        preprocessing_version: of the function that turned bytes into digits for the training.
        labels: the human-readable label of each output.
        temperature: the logits are divided by it before the softmax; fitted on the validation fold.
        abstention: when a picture counts as no digit.
        metrics: the evaluation of each fold, by the fold's name, with the probabilities at that temperature.
        dataset_digest: of the data set it was trained on.
        training_digest: of the training: data set, config and weights.
        environment: versions of the packages it was made with.
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
    def _whole(self) -> Self:
        if len(self.labels) != CLASSES or len({name.casefold() for name in self.labels}) != CLASSES:
            raise ValueError(f"labels must be {CLASSES} distinct names, not {self.labels}")
        if self.architecture.classes != CLASSES:
            raise ValueError(f"architecture.classes must be {CLASSES}")
        if sorted(self.files) != sorted(FILES):
            raise ValueError(f"files must be {FILES}, not {tuple(self.files)}")
        return self

    def to_json(self) -> bytes:
        """The bytes of card.json: the same for equal cards."""
        return (self.model_dump_json(indent=1) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Golden:
    """Digits with what the model must say of them, noted when the bundle was made.

    Attributes:
        images: uint8 (N, 28, 28), N at least 20.
        logits: float32 (N, 10).
        probabilities: float32 (N, 10).
        scores: float32 (N,), how unlike a digit each is.
        labels: the label table, so that one exchanged in the card is noticed.
    """

    images: NDArray[np.uint8]
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle, in memory: what was verified is what is used.

    Attributes:
        card: the parsed card.
        digest: "sha256:" and the hexadecimal sha256 of card.json.
        files: the bytes of every other file, by name.
        golden: the golden samples.
        abstention: what tells digits from other pictures.
    """

    card: Card
    digest: str
    files: Mapping[str, bytes]
    golden: Golden
    abstention: Abstention


def bundle_digest(folder: Path) -> str:
    """What names a bundle: "sha256:" and the sha256 of its card, which holds those of the other files.

    Raises:
        ObjectMissing: the folder has no card.
    """
    return _digest(_read(folder, CARD))


def load_card(folder: Path, expected_digest: str | None = None) -> Card:
    """Read a bundle's card alone.

    Raises:
        ObjectMissing: the folder has no card.
        Damaged: it is not the card that `expected_digest` names.
        Permanent: it is no card, or its label table is not one of 10 distinct names.
    """
    return _card(_read(folder, CARD), folder, expected_digest)


def read_bundle(folder: Path, expected_digest: str | None = None) -> Bundle:
    """Read a bundle and verify every byte of it.

    Args:
        folder: the bundle's folder.
        expected_digest: as the registry or the manifest has it; without it the bundle is only checked
            against its own card.

    Raises:
        ObjectMissing: a file of the bundle is not there.
        Damaged: a file's sha256 is not the one that names it.
        Permanent: there are other files, one of them is not in its format, or the card's threshold is
            not that of abstention.npz.
    """
    data = _read(folder, CARD)
    card = _card(data, folder, expected_digest)
    if strangers := sorted({path.name for path in folder.iterdir()} - {CARD, REPORT, *FILES}):
        raise Permanent(f"{folder}: a bundle holds no {', '.join(strangers)}")
    files = {name: _read(folder, name) for name in FILES}
    for name, content in files.items():
        if (found := hashlib.sha256(content).hexdigest()) != card.files[name]:
            raise Damaged(f"{folder / name}: its sha256 is {found}, the card promises {card.files[name]}")
    try:
        safetensors.deserialize(files[WEIGHTS])  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise Permanent(f"{folder / WEIGHTS}: not in the safetensors format: {error}") from error
    golden = _golden(files[GOLDEN], folder / GOLDEN)
    abstention = _abstention(files[ABSTENTION], folder / ABSTENTION)
    if abstention.threshold != card.abstention.threshold:
        raise Permanent(
            f"{folder / ABSTENTION}: its threshold is {abstention.threshold}, the card's "
            f"{card.abstention.threshold}"
        )
    return Bundle(card, _digest(data), files, golden, abstention)


def golden_bytes(golden: Golden) -> bytes:
    """Golden samples as the bytes of golden.npz."""
    labels = np.array(golden.labels)
    return npz_bytes({name: getattr(golden, name) for name in _GOLDEN_ARRAYS} | {"labels": labels})


def _golden(content: bytes, path: Path) -> Golden:
    with _naming(path):
        arrays = arrays_of(content, (*_GOLDEN_ARRAYS, "labels"))
        labels = tuple(map(str, arrays.pop("labels").ravel()))
        count = len(np.atleast_1d(arrays["images"]))
        for name, (dtype, shape) in _GOLDEN_ARRAYS.items():
            if arrays[name].dtype != dtype or arrays[name].shape != (count, *shape):
                raise Permanent(f"{name} is {arrays[name].dtype} {arrays[name].shape}")
        if count < MIN_GOLDEN:
            raise Permanent(f"fewer than {MIN_GOLDEN} golden samples")
        return Golden(**arrays, labels=labels)  # type: ignore[arg-type]


def _abstention(content: bytes, path: Path) -> Abstention:
    with _naming(path):
        return Abstention.of_bytes(content)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever is wrong inside is wrong with this file."""
    try:
        yield
    except Permanent as error:
        raise Permanent(f"{path}: {error}") from error


def _card(data: bytes, folder: Path, expected_digest: str | None) -> Card:
    if expected_digest is not None and (found := _digest(data)) != expected_digest:
        raise Damaged(f"{folder}: its digest is {found}, promised was {expected_digest}")
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
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
