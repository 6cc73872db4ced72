"""An audit as it is kept: the predictions that were drawn, what people answered, and the accuracy so far."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from mnist_ops.domain import audit
from mnist_ops.domain.audit import AuditedStratum, Estimate, Predicted
from mnist_ops.domain.keys import Generation

LARGEST_SAMPLE = 1_000

STRATA: Mapping[str, Callable[[Predicted], str]] = {
    "confidence": audit.by_confidence,
    "none": audit.whole,
    "label": audit.by_label,
    "label-and-confidence": audit.by_label_and_confidence,
}


@dataclass(frozen=True, slots=True)
class AuditAnswer:
    """What a person sees in a drawn image.

    Attributes:
        label: the label's name; None if no label fits, which counts as a wrong prediction.
        by: the person.
        at: when (UTC).
    """

    label: str | None
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DrawnPrediction:
    """One prediction of the sample, as it was when the sample was drawn.

    Attributes:
        record: the record's `_id` as canonical Extended JSON.
        stratum: the one it was drawn from.
        url: of the image.
        sha256: of the image's bytes, hexadecimal.
        generation: the run that predicted.
        label: the predicted label.
        confidence: its probability, 0 to 1.
        answer: what a person saw; None until one has looked.
    """

    record: str
    stratum: str
    url: str
    sha256: str
    generation: Generation
    label: str
    confidence: float
    answer: AuditAnswer | None = None

    @property
    def wrong(self) -> bool:
        """Whether the person saw another label; False without an answer."""
        return self.answer is not None and self.answer.label != self.label


@dataclass(frozen=True, slots=True)
class StratumResult:
    """What people found in one stratum.

    Attributes:
        name: of the stratum.
        records: how many predictions it has in all.
        drawn: how many of them are in the sample.
        answered: how many of these a person has looked at.
        wrong: how many of those were predicted otherwise.
    """

    name: str
    records: int
    drawn: int
    answered: int
    wrong: int


@dataclass(frozen=True, slots=True)
class DrawnAudit:
    """A random sample of the predictions of some runs, for people to label.

    Attributes:
        id: names it.
        seed: what it was drawn with.
        strata: a name of `STRATA`.
        records: how many predictions each stratum has in all.
        runs: the generations that they come from.
        labels: the names of the label table that predicted.
        sample: what was drawn, in random order.
        drawn_by: who drew it.
        drawn_at: when (UTC).
    """

    id: str
    seed: int
    strata: str
    records: Mapping[str, int]
    runs: tuple[Generation, ...]
    labels: tuple[str, ...]
    sample: tuple[DrawnPrediction, ...]
    drawn_by: str
    drawn_at: datetime

    @property
    def answered(self) -> int:
        """How many of the sample a person has looked at."""
        return sum(drawn.answer is not None for drawn in self.sample)

    @property
    def wrong(self) -> int:
        """How many of those were predicted otherwise."""
        return sum(drawn.wrong for drawn in self.sample)

    @property
    def complete(self) -> bool:
        """Whether every drawn prediction has an answer; until then the accuracy is not final."""
        return self.answered == len(self.sample)

    def results(self) -> list[StratumResult]:
        """What people found in each stratum so far."""
        return [
            StratumResult(
                name=name,
                records=records,
                drawn=sum(drawn.stratum == name for drawn in self.sample),
                answered=sum(drawn.stratum == name and drawn.answer is not None for drawn in self.sample),
                wrong=sum(drawn.stratum == name and drawn.wrong for drawn in self.sample),
            )
            for name, records in self.records.items()
        ]

    def estimate(self) -> Estimate | None:
        """The accuracy of all predictions, from the answers so far; None while a stratum has none.

        Before the audit is complete it holds only if the open ones are as easy as the answered ones.
        """
        results = self.results()
        if not all(result.answered for result in results):
            return None
        return audit.accuracy_of(
            [AuditedStratum(result.records, result.answered, result.wrong) for result in results]
        )
