"""The hyperparameters of a training, their limits and their defaults."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.config.networks import NETWORKS, KernelSizes, kernel_sizes_of


class Optimizer(StrEnum):
    """The algorithm that updates the weights."""

    ADAMW = "adamw"
    ADAM = "adam"
    SGD = "sgd"
    ADADELTA = "adadelta"


class Schedule(StrEnum):
    """How the learning rate changes during a training."""

    ONE_CYCLE = "one-cycle"
    COSINE = "cosine"
    STEP = "step"
    CONSTANT = "constant"


class Precision(StrEnum):
    """The type of numbers in the forward pass of a training; weights are always float32."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


_Share = Annotated[float, Field(ge=0, lt=1)]
_KernelSize = Annotated[int, Field(ge=1, le=9)]


class TrainingConfig(BaseModel):
    """The hyperparameters of one training; the same config on the same data gives the same model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    network: Annotated[str, Field(json_schema_extra={"enum": list(NETWORKS)})] = "lenet5"
    """The name of a registered network."""

    kernel_sizes: tuple[_KernelSize, _KernelSize] | None = None
    """Side of the first and the second convolution's kernel, in pixels, for networks where it can be chosen;
    null for the network's own sizes."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 30
    """Passes over the training fold."""

    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 128
    """Examples per step."""

    optimizer: Optimizer = Optimizer.ADAMW
    """adamw, adam, sgd with Nesterov momentum, or adadelta."""

    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.004
    """The peak of the schedule."""

    schedule: Schedule = Schedule.ONE_CYCLE
    """one-cycle rises for a third of the training and then falls to zero; cosine only falls; step multiplies
    by step_factor every step_epochs; constant does not change."""

    step_epochs: Annotated[int, Field(ge=1)] = 1
    """Epochs between two changes of the learning rate; used by the schedule step."""

    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Multiplies the learning rate at each change; used by the schedule step."""

    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Applied to weights, not to biases or batch normalisation; decoupled for adamw, L2 for the others."""

    momentum: _Share = 0.9
    """Used by sgd only."""

    label_smoothing: _Share = 0.0
    """Share of the target probability that is spread over all classes."""

    rotate: Annotated[float, Field(ge=0, le=45)] = 8.0
    """Random rotation, up to this many degrees."""

    shear: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Random shear: a pixel moves sideways by up to this share of its distance from the middle row."""

    zoom: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Random scaling of each axis, larger or smaller by up to this share."""

    shift: Annotated[float, Field(ge=0, le=8)] = 1.0
    """Random translation of each axis, up to this many pixels."""

    elastic: Annotated[float, Field(ge=0, le=4)] = 0.5
    """Random elastic distortion: the standard deviation of a smooth displacement, in pixels."""

    averaging: _Share = 0.998
    """Decay of the exponential moving average (EMA) of the weights, which is validated and kept; lower in the
    first steps. 0 keeps the trained weights themselves."""

    validate_every: Annotated[int, Field(ge=1)] | None = None
    """Steps between two validations within an epoch; null to validate at the end of each epoch only."""

    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many validations without improvement; null to train all epochs."""

    precision: Precision = Precision.AUTO
    """bfloat16 or float32; auto is bfloat16 on CUDA and float32 on CPU."""

    compile: bool = False
    """Compile the network with torch.compile, which takes 10 to 30 seconds before the first step."""

    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of a training on CPU. Another number gives slightly different weights. More threads than free
    cores make a training three times slower."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the initial weights, the order of examples and the augmentation."""

    @field_validator("network")
    @classmethod
    def _require_registered(cls, name: str) -> str:
        if name not in NETWORKS:
            raise PydanticCustomError("network", "must be one of {names}", {"names": ", ".join(NETWORKS)})
        return name

    @field_validator("kernel_sizes")
    @classmethod
    def _require_allowed_sizes(cls, sizes: KernelSizes | None, info: ValidationInfo) -> KernelSizes | None:
        if sizes is not None and "network" in info.data:
            try:
                kernel_sizes_of(info.data["network"], sizes)
            except Permanent as error:
                raise PydanticCustomError("kernel_sizes", "{problem}", {"problem": str(error)}) from error
        return sizes
