"""The pictures of a record that a reviewer looks at: as fetched, and as the network sees it."""

from dataclasses import dataclass

from mnist_ops.domain.errors import ItemRejected, MnistOpsError
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.pictures import as_fetched, as_network_sees_it
from mnist_ops.vision.preprocessing.decode import decode

_LONGEST_SIDE = 336  # pixels: sharp at 14 rem on most screens


@dataclass(frozen=True, slots=True)
class Pictures:
    """Data URIs of a record's image, or why there are none.

    Attributes:
        fetched: as fetched; None if it cannot be shown.
        digit: the 28 by 28 pixels that the network saw; None if it cannot be shown.
        missing: why something cannot be shown, as a sentence; None if both can.
    """

    fetched: str | None = None
    digit: str | None = None
    missing: str | None = None


def pictures_of(steps: Pipeline, run: object, generation: object, record: str) -> Pictures:
    """The pictures of the image that a run got for a record.

    Args:
        steps: the pipeline.
        run: the key of the run, as a prediction has it.
        generation: its number.
        record: canonical Extended JSON.
    """
    try:
        image = steps.image_of_record(run, generation, record)
    except MnistOpsError as error:
        return Pictures(missing=f"The image cannot be read: {error}.")
    if image is None or image.payload is None:
        return Pictures(
            missing="The image that the run fetched is not stored any more; open its URL instead."
        )
    try:
        return Pictures(as_fetched(image.payload, _LONGEST_SIDE), as_network_sees_it(decode(image.payload)))
    except ItemRejected as rejection:
        return Pictures(missing=f"The image cannot be shown: {rejection.detail}.")
