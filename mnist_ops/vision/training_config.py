"""What can be chosen about a training, and what is chosen when nobody says."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Optimizer(StrEnum):
    """How the weights follow the gradient."""

    ADAMW = "adamw"
    SGD = "sgd"


class TrainingConfig(BaseModel):
    """The hyperparameters of one training; the same config on the same data gives the same model.

    Attributes:
        network: the name of a registered network.
        epochs: passes over the training fold.
        batch_size: examples a step.
        optimizer: adamw, or sgd with Nesterov momentum.
        learning_rate: the peak of the one-cycle schedule.
        weight_decay: decoupled for adamw, L2 for sgd.
        momentum: of sgd; adamw does not use it.
        label_smoothing: share of the target that is spread over all classes.
        shift: how far, in pixels, digits are moved at random while training.
        zoom: by which share digits are made larger or smaller at random while training.
        averaging: of the weights that are validated and kept: each step, this share of the running
            average stays and the rest comes from the trained weights; 0 keeps the trained weights.
        threads: of the training on CPU. More than one gains little on a network this small, loses
            threefold where cores are shared, and gives slightly other weights.
        seed: of the first weights, the order of examples and the random moves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str = "lenet5"
    epochs: Annotated[int, Field(ge=1, le=1000)] = 12
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 64
    optimizer: Optimizer = Optimizer.ADAMW
    learning_rate: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.01
    weight_decay: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    shift: Annotated[float, Field(ge=0, le=8)] = 2.0
    zoom: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.98
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
