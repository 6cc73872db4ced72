"""Audits in MongoDB: one document each, with its sample and the answers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import cast

from pymongo.database import Database

from mnist_ops.adapters.mongo.bson_documents import Document
from mnist_ops.adapters.mongo.collections import majority_collection
from mnist_ops.adapters.mongo.errors import translated
from mnist_ops.domain.drawn_audits import AuditAnswer, DrawnAudit, DrawnPrediction
from mnist_ops.domain.keys import Generation

AUDITS = "mnist_ops_audits"


class MongoAudits:
    """Audits. Implements `AuditStore`.

    The sample never changes; `answers` holds each answer by the position of what it answers.
    """

    def __init__(self, database: Database[Document]) -> None:
        self._audits = majority_collection(database, AUDITS)

    def put(self, audit: DrawnAudit) -> None:
        translated(self._audits.insert_one, _document(audit))

    def get(self, audit_id: str) -> DrawnAudit | None:
        found = translated(self._audits.find_one, {"_id": audit_id})
        return _audit(found) if found else None

    def newest(self, limit: int) -> Sequence[DrawnAudit]:
        # An id begins with the time of the draw, so its index is in order.
        found = translated(lambda: list(self._audits.find().sort("_id", -1).limit(limit)))
        return [_audit(document) for document in found]

    def answer(self, audit_id: str, position: int, answer: AuditAnswer) -> bool:
        place = f"answers.{position}"
        open_ = {"_id": audit_id, "size": {"$gt": position}, place: {"$exists": False}}
        update = {"$set": {place: asdict(answer)}}
        return translated(self._audits.update_one, open_, update).matched_count == 1

    def withdraw(self, audit_id: str, position: int, answer: AuditAnswer) -> bool:
        place = f"answers.{position}"
        present = {"_id": audit_id, f"{place}.by": answer.by, f"{place}.at": answer.at}
        update = {"$unset": {place: ""}}
        return translated(self._audits.update_one, present, update).matched_count == 1


def _document(audit: DrawnAudit) -> Document:
    values = asdict(audit)
    # Names of strata hold dots, so they are no keys.
    strata = [{"name": name, "records": records} for name, records in audit.records.items()]
    for drawn in values["sample"]:
        del drawn["answer"]
    size = len(audit.sample)
    return {"_id": values.pop("id"), **values, "records": strata, "size": size, "answers": {}}


def _audit(document: Document) -> DrawnAudit:
    strata = cast("Sequence[Mapping[str, object]]", document["records"])
    answers = cast("Mapping[str, Document]", document["answers"])
    sample = cast("Sequence[Document]", document["sample"])
    return DrawnAudit(
        id=str(document["_id"]),
        seed=cast("int", document["seed"]),
        strata=str(document["strata"]),
        records={str(each["name"]): cast("int", each["records"]) for each in strata},
        runs=tuple(_generation(run) for run in cast("Sequence[Document]", document["runs"])),
        labels=tuple(cast("Sequence[str]", document["labels"])),
        sample=tuple(_drawn(each, answers.get(str(position))) for position, each in enumerate(sample)),
        drawn_by=str(document["drawn_by"]),
        drawn_at=cast("datetime", document["drawn_at"]),
    )


def _generation(value: object) -> Generation:
    document = cast("Document", value)
    return Generation(str(document["run"]), cast("int", document["number"]))


def _drawn(document: Document, answer: Document | None) -> DrawnPrediction:
    return DrawnPrediction(
        record=str(document["record"]),
        stratum=str(document["stratum"]),
        url=str(document["url"]),
        sha256=str(document["sha256"]),
        generation=_generation(document["generation"]),
        label=str(document["label"]),
        confidence=cast("float", document["confidence"]),
        answer=_given(answer) if answer else None,
    )


def _given(document: Document) -> AuditAnswer:
    return AuditAnswer(
        label=cast("str | None", document["label"]),
        by=str(document["by"]),
        at=cast("datetime", document["at"]),
    )
