"""The manifest of a snapshot: what was selected, when, for which model, and where it is stored."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from mnist_ops.domain.errors import Damaged, UsageError
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.selection import Reclassify, Selection
from mnist_ops.domain.stages import StageReport

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of a snapshot: gzipped, concatenated BSON documents.

    Attributes:
        number: counts from 0.
        uri: its URI in the object store.
        records: the number of documents.
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
    """The description of an immutable snapshot.

    Attributes:
        generation: the generation that it belongs to.
        selection: the rule by which its records were selected.
        champion: the bundle that will classify it; None for an empty or a labelled snapshot.
        parts: its parts, in order.
        stage: the report of the step that took it.
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
        """The number of records."""
        return sum(part.records for part in self.parts)

    def part(self, number: int) -> Part:
        """The part with a number.

        Raises:
            UsageError: there is no such part.
        """
        if not 0 <= number < len(self.parts):
            raise UsageError(f"{self.generation.id}: no part {number}, its snapshot has {len(self.parts)}")
        return self.parts[number]

    def part_names(self) -> list[str]:
        """What people see in place of each part's number, such as `part 3 of 12, 20,000 records`."""
        return [
            f"part {part.number + 1} of {len(self.parts)}, "
            f"{part.records:,} {'record' if part.records == 1 else 'records'}"
            for part in self.parts
        ]

    def to_json(self) -> bytes:
        """Canonical JSON: equal manifests give equal bytes."""
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
        """Read back what `to_json` wrote.

        Raises:
            Damaged: it is not a manifest of this format.
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
    document = asdict(selection) | {"reasons": sorted(selection.reasons)}
    for name in ("at", "since", "until"):
        moment = document[name]
        document[name] = moment.isoformat() if moment else None
    return document


def _selection(document: Mapping[str, Any]) -> Selection:
    values = dict(document)
    for name in ("at", "since", "until"):
        moment = values[name]
        values[name] = datetime.fromisoformat(moment) if isinstance(moment, str) else None
    values["reclassify"] = Reclassify(str(values["reclassify"]))
    values["reasons"] = frozenset(Reason(str(reason)) for reason in values["reasons"])
    return Selection(**values)
