"""The shapes of the REST API's answers, for its OpenAPI document."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.review import ReviewReason

Probability = Annotated[float, Field(ge=0, le=1)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ModelIdentity(_Shape):
    """The model that predicted."""

    name: str = Field(examples=["lenet5"])
    version: int = Field(examples=[7])
    digest: str = Field(description="The digest of its bundle.", examples=["sha256:7ba1342e…"])


class ImageIdentity(_Shape):
    """The image as it was received."""

    sha256: str = Field(description="Of its bytes, hexadecimal.")


class Prediction(_Shape):
    """The prediction for an image: the numbers that the batch pipeline writes into a record of it."""

    label: str = Field(description="The name of the most probable class.", examples=["seven"])
    index: int = Field(description="Its index in the label table.", examples=[7])
    confidence: Probability = Field(description="Its probability.", examples=[0.9987])
    probabilities: dict[str, Probability] = Field(description="Of every class, by name.")
    needs_review: bool = Field(description="Whether a person should look at the image.")
    review_reason: ReviewReason | None = Field(description="Why; null if nobody need.")
    model: ModelIdentity
    image: ImageIdentity
    picture: str | None = Field(
        default=None,
        description="With `picture=true`: what the network saw, a PNG of 28 x 28 pixels in base64.",
    )


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    title: str = Field(description="The kind of problem.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What exactly, and what to do.")
    reason: Reason | None = Field(default=None, description="Why an image cannot be classified.")


class FilePrediction(Prediction):
    """The prediction for a file of a batch."""

    file: str = Field(description="The file's name in the request.")


class FileProblem(_Shape):
    """Why a file of a batch has no prediction."""

    file: str = Field(description="The file's name in the request.")
    problem: Problem


class Health(_Shape):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(_Shape):
    """Whether predictions can be made now."""

    ready: bool
    model: ModelIdentity | None = Field(description="The champion in use; null until one is loaded.")
    database: bool = Field(description="Whether the database answered when it was last asked.")
    problem: str | None = Field(description="What is wrong; null if nothing is.")
