"""The pictures of a record that a reviewer looks at: as fetched, and as the network sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from mnist_ops.domain.errors import MnistOpsError
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.pictures import Picture, picture
from mnist_ops.steps.stored_images import StoredImage

_LONGEST_SIDE = 336  # pixels: sharp at 14 rem on most screens


@dataclass(frozen=True, slots=True)
class Place:
    """Where the image of a record is.

    Attributes:
        run: the key of the run that predicted, as a prediction has it.
        generation: its number.
        record: the record's `_id` as canonical Extended JSON.
    """

    run: object
    generation: object
    record: str


def pictures_of(steps: Pipeline, places: Sequence[Place]) -> list[Picture]:
    """The pictures of the images that runs got for records, in order; each run's shards are searched once."""
    found: dict[tuple[str, str], Picture] = {}
    for run, group in groupby(sorted(places, key=_run), key=_run):
        found |= {(run, record): pictures for record, pictures in _of_one_run(steps, list(group)).items()}
    return [found[_run(place), place.record] for place in places]


def _run(place: Place) -> str:
    # Other programs may have written any value into a record, also one that cannot be hashed.
    return repr((place.run, place.generation))


def _of_one_run(steps: Pipeline, places: Sequence[Place]) -> dict[str, Picture]:
    records = [place.record for place in places]
    try:
        images = steps.images_of_records(places[0].run, places[0].generation, records)
    except MnistOpsError as error:
        return dict.fromkeys(records, Picture(why_not=f"The image cannot be read: {error}."))
    return {record: _picture(images.get(record)) for record in records}


def _picture(image: StoredImage | None) -> Picture:
    if image is None or image.payload is None:
        return Picture(why_not="The image that the run fetched is not stored any more; open its URL instead.")
    shown = picture(image.payload, _LONGEST_SIDE)
    return Picture(why_not=f"The image cannot be shown: {shown.why_not}.") if shown.why_not else shown
