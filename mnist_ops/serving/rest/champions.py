"""The champion, loaded and kept up to date: a new one replaces it between two batches."""

import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from mnist_ops.domain.errors import MnistOpsError, Transient
from mnist_ops.domain.records import BundleRef
from mnist_ops.pipeline import Pipeline
from mnist_ops.steps.artifacts.bundles import Classifier, load_bundle

_log = logging.getLogger(__name__)


class NoChampion(Transient):
    """Nothing was released yet, or what was released cannot be loaded."""


@dataclass(frozen=True, slots=True, eq=False)
class Champion:
    """A champion that is ready to classify.

    Attributes:
        bundle: the released model.
        classifier: the same, loaded.
        review_below: a prediction with less confidence than this, 0 to 1, is marked for review.
    """

    bundle: BundleRef
    classifier: Classifier
    review_below: float


@dataclass(frozen=True, slots=True)
class Check:
    """The last look at the registry.

    Attributes:
        at: when it ended, in seconds of the monotonic clock.
        reached: whether the registry answered.
        error: what went wrong; None if nothing did.
    """

    at: float
    reached: bool
    error: str | None


class Champions:
    """The present champion of a deployment.

    Once asked for, a thread looks every few seconds for another champion, and loads it beside the present
    one. One that cannot be loaded is logged, and the present one stays. The thread ends with this object.

    Args:
        pipeline: gives the deployment's pipeline; called from several threads.

    Attributes:
        current: the champion in use; None until one is loaded.
        last_check: None until the first one has ended.
        poll_s: seconds between two checks: the setting, once it could be read.
    """

    def __init__(self, pipeline: Callable[[], Pipeline]) -> None:
        self.current: Champion | None = None
        self.last_check: Check | None = None
        self.poll_s = 5.0
        self._pipeline = pipeline
        self._checking = threading.Lock()
        self._starting = threading.Lock()
        self._started = False
        self._first_check = threading.Event()

    def champion(self) -> Champion:
        """The champion, from memory; only the first one is waited for.

        Raises:
            NoChampion: there is none, or it cannot be loaded; the error says why.
        """
        current = self.current
        if current is None:
            self.start()
            self._first_check.wait()
            check, current = self.last_check, self.current
            if current is None:
                raise NoChampion(check.error if check else None)
        return current

    def start(self) -> None:
        """Look for champions from now on, in a thread; does nothing if it does already."""
        with self._starting:
            start, self._started = not self._started, True
        if start:
            threading.Thread(target=_poll, args=(weakref.ref(self),), name="champions", daemon=True).start()

    def wait_for_first_check(self, timeout_s: float) -> None:
        """Wait until the registry was asked once, or for some seconds."""
        self.start()
        self._first_check.wait(timeout_s)

    def check(self) -> None:
        """Look for another champion, and load it. An error is logged and kept for `readyz`."""
        with self._checking:
            try:
                self.last_check = self._check()
            finally:
                self._first_check.set()

    def _check(self) -> Check:
        reached = False
        error: str | None = None
        try:
            pipeline = self._pipeline()
            self.poll_s = pipeline.settings.champion_poll_s
            bundle = pipeline.adapters.models.champion(pipeline.settings.model_name)
            reached = True
            if bundle is None:
                raise NoChampion(f"no {pipeline.settings.model_name} was released yet: run train_lenet")
            if self.current is None or self.current.bundle != bundle:
                self.current = _loaded(pipeline, bundle)
        except MnistOpsError as problem:
            error = str(problem)
            if self.last_check is None or self.last_check.error != error:
                _log.warning("%s; %s", error, self._consequence())
        return Check(time.monotonic(), reached, error)

    def _consequence(self) -> str:
        if self.current is None:
            return "predictions are answered with 503"
        return f"version {self.current.bundle.version} stays in use"


def _loaded(pipeline: Pipeline, bundle: BundleRef) -> Champion:
    ports = pipeline.adapters
    classifier = load_bundle(ports.objects, bundle, ports.load_classifier)
    _log.info("%s version %d is in use", bundle.name, bundle.version)
    return Champion(bundle, classifier, pipeline.settings.review_below)


def _poll(reference: "weakref.ref[Champions]") -> None:
    while (champions := reference()) is not None:
        try:
            champions.check()
        except Exception:  # noqa: BLE001 (logged; the thread goes on)
            # Not one of ours: a fault. Whatever it is, the next champion must not be missed.
            _log.exception("looking for another champion failed")
        pause_s = champions.poll_s
        del champions
        time.sleep(pause_s)
