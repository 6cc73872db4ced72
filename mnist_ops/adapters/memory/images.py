"""Images in memory, for tests and for trying a step out."""

from collections.abc import Iterable, Iterator, Mapping

from mnist_ops.domain.images import FetchedImage, FetchFailure, FetchOutcome, UnchangedImage, Validators
from mnist_ops.domain.reasons import Reason


class InMemoryImages:
    """Images in a dictionary by URL. Implements `ImageFetcher`.

    A URL that is not in it fails as `not_found`.

    Args:
        images: payloads, or the failures to return instead, by URL.

    Attributes:
        images: as given; may be changed.
        validators: of the images, by URL; empty unless a test fills it.
        fetched: every URL that was fetched, in order.
    """

    def __init__(self, images: Mapping[str, bytes | FetchFailure] | None = None) -> None:
        self.images = dict(images or {})
        self.validators: dict[str, Validators] = {}
        self.fetched: list[str] = []

    def fetch(
        self, urls: Iterable[str], known: Mapping[str, Validators] | None = None
    ) -> Iterator[FetchOutcome]:
        for url in urls:
            self.fetched.append(url)
            found = self.images.get(url)
            validators = self.validators.get(url)
            if found is None:
                yield FetchFailure(url, Reason.NOT_FOUND, "the server has no such image", http_status=404)
            elif isinstance(found, FetchFailure):
                yield found
            elif validators is not None and validators == (known or {}).get(url):
                yield UnchangedImage(url, http_status=304)
            else:
                yield FetchedImage(url, found, http_status=200, validators=validators)
