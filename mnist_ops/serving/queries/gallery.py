"""The records of a run with their pictures, and the filter of a run's page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mnist_ops.domain.errors import MnistOpsError, ObjectMissing, UsageError
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.reasons import Reason
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.pictures import Picture, picture
from mnist_ops.serving.queries.runs import LedgerDocument
from mnist_ops.steps.run_page import PicturedRecord, Position, RecordFilter
from mnist_ops.steps.run_records import RunRecord

RECORDS_PER_PAGE = 48
# Bytes of images that one page decodes; the pictures of further records are on the records' own pages.
_MOST_BYTES = 16 << 20


def _nothing(value: object) -> object:
    """A field of a form that was left empty was not given."""
    return None if value == "" else value


_Empty = BeforeValidator(_nothing)
_Share = Annotated[Annotated[float, Field(ge=0, le=100)] | None, _Empty]


class GalleryQuery(BaseModel):
    """What the filter's form sends.

    Attributes:
        outcome: only records with this outcome.
        reason: only failures for this reason.
        label: only predictions of this label.
        at_least: the lowest confidence in per cent.
        below: what the confidence must be under, in per cent.
        needs_review: only predictions that a person should look at.
        start: the position to begin at.
    """

    model_config = ConfigDict(populate_by_name=True)

    outcome: Annotated[Outcome | None, _Empty] = None
    reason: Annotated[Reason | None, _Empty] = None
    label: Annotated[Annotated[str, Field(max_length=200)] | None, _Empty] = None
    at_least: _Share = None
    below: _Share = None
    needs_review: bool = False
    start: Annotated[str, Field(max_length=40)] = "0-0"

    def wanted(self) -> RecordFilter:
        """The filter."""
        return RecordFilter(
            outcome=self.outcome,
            label=self.label,
            reason=self.reason,
            at_least=None if self.at_least is None else self.at_least / 100,
            below=None if self.below is None else self.below / 100,
            needs_review=self.needs_review,
        )

    def given(self) -> dict[str, object]:
        """The conditions that were given: for the addresses of further pages."""
        conditions = set(GalleryQuery.model_fields) - {"start"}
        values = self.model_dump(mode="json", exclude_defaults=True, include=conditions)
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Card:
    """A record in the gallery.

    Attributes:
        record: what the run did with it.
        probabilities: of every class, by name; empty without a prediction.
        picture: its image.
    """

    record: RunRecord
    probabilities: dict[str, float]
    picture: Picture


@dataclass(frozen=True, slots=True)
class Gallery:
    """A page of a run's records.

    Attributes:
        cards: the records.
        searched: the number of records that were looked at, by their rows or by the counts of their part.
        following: the position to continue from; None at the end of the run.
        problem: why the records cannot be read; None if they were read.
    """

    cards: Sequence[Card] = ()
    searched: int = 0
    following: str | None = None
    problem: str | None = None


def gallery(pipeline: Pipeline, ledger: LedgerDocument, query: GalleryQuery) -> Gallery | None:
    """A page of a run's records; None if garbage collection has deleted its shards.

    What else keeps its shards from being read is said in the gallery: the ledger is shown all the same.

    Raises:
        UsageError: the position is none.
    """
    try:
        page = pipeline.run_page(ledger, query.wanted(), Position.of(query.start), RECORDS_PER_PAGE)
    except ObjectMissing:
        return None
    except UsageError:
        raise
    except MnistOpsError as error:
        return Gallery(problem=str(error))
    cards, left = [], _MOST_BYTES
    for one in page.records:
        left -= len(one.payload or b"")
        large = one.left_out or left < 0
        picture = Picture(why_not="a large image: open the record") if large else _picture_of(one)
        cards.append(Card(one.record, dict(one.probabilities), picture))
    return Gallery(cards, page.searched, None if page.following is None else str(page.following))


def _picture_of(one: PicturedRecord) -> Picture:
    if one.payload is not None:
        return picture(one.payload)
    if one.record.reason is not None and one.record.label is None:
        return Picture(why_not="no image")
    return Picture(why_not="the image is not stored any more")
