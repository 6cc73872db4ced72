"""The manifest of a snapshot: what was selected, when, for which model, and where it lies."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from mnist_ops.domain.errors import Damaged, Permanent
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.selection import Reclassify, Selection
from mnist_ops.domain.stages import StageReport

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of a snapshot: gzipped, concatenated BSON documents.

    Attributes:
        number: counts from 0.
        uri: where it lies.
        records: documents in it.
        size: bytes as stored.
        sha256: of the bytes as stored, hexadecimal.
        first_id: the first document's `_id`, canonical Extended JSON.
        last_id: the last document's.
    """

    number: int
    uri: str
    records: int
    size: int
    sha256: str
    first_id: str
    last_id: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """An immutable snapshot, described.

    Attributes:
        generation: whose snapshot it is.
        selection: the rule it was taken by.
        champion: the bundle that will classify it, pinned; None for an empty or labelled one.
        parts: the slices, in order.
        stage: what taking it cost.
    """

    generation: Generation
    selection: Selection
    champion: BundleRef | None
    parts: tuple[Part, ...]
    stage: StageReport

    @property
    def at(self) -> datetime:
        """The selection time (UTC)."""
        return self.selection.at

    @property
    def records(self) -> int:
        """How many records were selected."""
        return sum(part.records for part in self.parts)

    def part(self, number: int) -> Part:
        """One part.

        Raises:
            Permanent: there is no such part.
        """
        if not 0 <= number < len(self.parts):
            raise Permanent(f"{self.generation.id}: no part {number}, its snapshot has {len(self.parts)}")
        return self.parts[number]

    def to_json(self) -> bytes:
        """Canonical JSON: the same manifest always gives the same bytes."""
        document = {
            "format": FORMAT,
            "run": self.generation.run,
            "generation": self.generation.number,
            "at": self.at.isoformat(),
            "selection": selection_document(self.selection),
            "champion": asdict(self.champion) if self.champion else None,
            "counts": {
                "records": self.records,
                "parts": len(self.parts),
                "bytes": sum(p.size for p in self.parts),
            },
            "parts": [asdict(part) for part in self.parts],
            "stage": self.stage.document(),
        }
        return json.dumps(document, sort_keys=True, indent=1).encode()

    @staticmethod
    def from_json(data: bytes) -> "Manifest":
        """Read what `to_json` wrote.

        Raises:
            Damaged: not a manifest of this format.
        """
        try:
            document = json.loads(data)
            if document["format"] != FORMAT:
                raise Damaged(f"manifest format {document['format']!r}: this version reads {FORMAT}")
            return Manifest(
                generation=Generation(document["run"], document["generation"]),
                selection=_selection(document["selection"]),
                champion=BundleRef(**document["champion"]) if document["champion"] else None,
                parts=tuple(Part(**part) for part in document["parts"]),
                stage=StageReport.of(document["stage"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"not a manifest: {error!r}") from error


def selection_document(selection: Selection) -> dict[str, object]:
    """A selection as JSON-able values."""
    document = asdict(selection)
    for name in ("at", "since", "until"):
        moment = document[name]
        document[name] = moment.isoformat() if moment else None
    return document


def _selection(document: Mapping[str, object]) -> Selection:
    values = dict(document)
    for name in ("at", "since", "until"):
        moment = values[name]
        values[name] = datetime.fromisoformat(moment) if isinstance(moment, str) else None
    values["reclassify"] = Reclassify(str(values["reclassify"]))
    return Selection(**values)  # type: ignore[arg-type]
