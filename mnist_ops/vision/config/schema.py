"""What can be chosen about a training, and what is chosen when nobody says."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.config.networks import NETWORKS, KernelSizes, kernel_sizes_of


class Optimizer(StrEnum):
    """How the weights follow the gradient."""

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
    """In which numbers the network computes while training; weights are float32 in any case."""

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
    """Pixels of the first and second convolution's side, for networks where they can be chosen; null for
    the network's own."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 30
    """Passes over the training fold."""

    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 128
    """Examples a step."""

    optimizer: Optimizer = Optimizer.ADAMW
    """adamw, adam, sgd with Nesterov momentum, or adadelta."""

    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.004
    """The peak of the schedule."""

    schedule: Schedule = Schedule.ONE_CYCLE
    """one-cycle rises for a third of the training and then falls to nothing; cosine only falls; step
    multiplies by step_factor every step_epochs; constant stays."""

    step_epochs: Annotated[int, Field(ge=1)] = 1
    """Of the schedule step, in epochs."""

    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Of the schedule step."""

    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Of weights, not of biases and batch normalisation; decoupled for adamw, L2 for the others."""

    momentum: _Share = 0.9
    """Of sgd; the others do not use it."""

    label_smoothing: _Share = 0.0
    """Share of the target that is spread over all classes."""

    rotate: Annotated[float, Field(ge=0, le=45)] = 8.0
    """Up to how many degrees digits are turned at random while training."""

    shear: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Up to how many pixels a pixel's distance from the middle row moves it sideways."""

    zoom: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Up to which share digits are made larger or smaller, each axis by itself."""

    shift: Annotated[float, Field(ge=0, le=8)] = 1.0
    """Up to how many pixels digits are moved."""

    elastic: Annotated[float, Field(ge=0, le=4)] = 0.5
    """Standard deviation, in pixels, of a smooth random displacement."""

    averaging: _Share = 0.998
    """Of the weights that are validated and kept: each step, this share of the running average stays and
    the rest comes from the trained weights; less of it at first. 0 keeps the trained weights."""

    validate_every: Annotated[int, Field(ge=1)] | None = None
    """Validate also after every so many steps; null for the end of each epoch alone."""

    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many validations without a better one; null to go on to the end."""

    precision: Precision = Precision.AUTO
    """bfloat16 or float32; auto takes bfloat16 on CUDA."""

    compile: bool = False
    """Have torch compile the network: takes 10 to 30 seconds before the first step."""

    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Of the training on CPU. More of them give slightly other weights, and lose threefold where the
    cores are shared."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of the first weights, the order of examples and the random changes."""

    @field_validator("network")
    @classmethod
    def _registered(cls, name: str) -> str:
        if name not in NETWORKS:
            raise ValueError(f"one of {', '.join(NETWORKS)}")
        return name

    @field_validator("kernel_sizes")
    @classmethod
    def _fit(cls, sizes: KernelSizes | None, info: ValidationInfo) -> KernelSizes | None:
        if sizes is not None and "network" in info.data:
            try:
                kernel_sizes_of(info.data["network"], sizes)
            except Permanent as error:
                # The field and the value stand before it in any case.
                raise ValueError(str(error).partition(": ")[2]) from error
        return sizes
