"""`mnist-ops predict`: classify image files with a released bundle."""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli._support.exit_codes import ExitCode
from mnist_ops.cli._support.options import Json
from mnist_ops.cli._support.tables import print_json, print_table
from mnist_ops.domain.errors import ItemRejected, Permanent, UsageError
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import BundleRef
from mnist_ops.settings import Settings, settings_of

if TYPE_CHECKING:
    from mnist_ops.steps.artifacts.bundles import Classifier


def predict(
    files: Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)],
    as_json: Json = False,
    bundle: Annotated[
        str | None, typer.Option(help="A bundle's folder, or its s3:// URI; by default the champion's.")
    ] = None,
) -> None:
    """Classify image files. Exits with 0 if all were classified, with 1 if any failed."""
    settings = settings_of(os.environ)
    failed = False
    rows: list[list[str]] = []
    classifier = _classifier(bundle, settings)
    for file in files:
        try:
            result = _prediction(classifier, file, settings)
        except ItemRejected as rejection:
            failed = True
            result = {"error": {"reason": str(rejection.reason), "detail": rejection.detail}}
        if as_json:
            print_json({"file": _name(file), **result})
        else:
            rows.append(_row(_name(file), result))
    if rows:
        print_table(("file", "label", "confidence", "look at"), rows, right=("confidence",))
    raise typer.Exit(ExitCode.SOME_FAILED if failed else ExitCode.DONE)


def _prediction(classifier: "Classifier", file: Path, settings: Settings) -> dict[str, object]:
    from mnist_ops.vision.inference.predict import predict_payloads

    payload = _payload(file, settings.fetch_max_bytes)
    (answer,) = predict_payloads([payload], classifier, settings.review_below)
    if isinstance(answer, ItemRejected):
        raise answer
    return {
        "label": answer.label,
        "index": answer.index,
        "confidence": answer.confidence,
        "needs_review": answer.needs_review,
        "review_reason": answer.review_reason,
        "probabilities": dict(zip(classifier.labels, answer.probabilities, strict=True)),
    }


def _payload(file: Path, max_bytes: int) -> bytes:
    try:
        # Checked before it is opened: opening a named pipe would wait until somebody writes into it.
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ItemRejected(Reason.UNREADABLE_FILE, "not a regular file")
        if status.st_size > max_bytes:
            raise ItemRejected(Reason.TOO_LARGE, f"{status.st_size} bytes, at most {max_bytes} are read")
        with file.open("rb") as opened:
            return opened.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ItemRejected(Reason.UNREADABLE_FILE, reason or repr(error)) from error


def _name(file: Path) -> str:
    return os.fsencode(file).decode(errors="replace")


def _row(name: str, result: dict[str, object]) -> list[str]:
    error = result.get("error")
    if isinstance(error, dict):
        return [name, "", "", f"{error['reason']}: {error['detail']}"]
    return [name, str(result["label"]), f"{result['confidence']:.2%}", str(result["review_reason"] or "")]


def _classifier(bundle: str | None, settings: Settings) -> "Classifier":
    from mnist_ops.vision.inference.classifier import load_classifier

    if bundle is not None and "://" not in bundle:
        if not (Path(bundle) / "card.json").is_file():
            raise UsageError(f"--bundle {bundle}: no folder with a card.json")
        return load_classifier(Path(bundle), device=settings.device)
    from mnist_ops.steps.artifacts.bundles import load_bundle
    from mnist_ops.wiring import adapters_of_environment

    named = _reference_from_uri(bundle) if bundle is not None else None
    adapters = adapters_of_environment(settings, os.environ)
    chosen = named or adapters.models.champion(settings.model_name)
    if chosen is None:
        raise Permanent(f"no {settings.model_name} was released yet: run train_lenet, or give --bundle")
    return load_bundle(adapters.objects, chosen, adapters.load_classifier)


def _reference_from_uri(uri: str) -> BundleRef:
    """Parse the URI of a bundle, such as s3://bucket/models/lenet5/000007-<digest>."""
    version, _, digest = uri.rstrip("/").rpartition("/")[2].partition("-")
    if not version.isdecimal() or len(digest) != 64:
        raise UsageError(f"--bundle {uri}: expected a URI as `models show` prints it")
    return BundleRef(name=uri, version=int(version), uri=uri.rstrip("/"), digest=f"sha256:{digest}")
