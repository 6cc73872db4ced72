"""Objects in memory, for tests and for trying a step out."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mnist_ops.domain.errors import ObjectMissing
from mnist_ops.domain.ports import ObjectRange
from mnist_ops.domain.retention import StoredObject, UnfinishedUpload


class InMemoryUpload:
    """An object that is stored when it is finished. Implements `Upload`."""

    def __init__(self, put: Callable[[bytes], str]) -> None:
        self._put = put
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        self._data += data

    def finish(self) -> str:
        return self._put(bytes(self._data))

    def abort(self) -> None:
        """Do nothing: nothing is stored before `finish`."""


class InMemoryObjects:
    """Objects in a dictionary. Implements `ObjectStore` and `GarbageStore`.

    Attributes:
        objects: their bytes by key.
        modified: when each was written (UTC), by key.
        now: the clock for `modified`.
        requests: how many requests were made, by S3 operation.
        moved: how many bytes were `sent` and `received`.
        uploads: unfinished multipart uploads: only those that a test puts there.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, datetime] = {}
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.requests: Counter[str] = Counter()
        self.moved: Counter[str] = Counter()
        self.uploads: list[UnfinishedUpload] = []

    def uri(self, key: str) -> str:
        return f"memory://objects/{key}"

    def put_bytes(self, key: str, data: bytes) -> str:
        self.requests["PutObject"] += 1
        self.moved["sent"] += len(data)
        self.objects[key] = data
        self.modified[key] = self.now()
        return self.uri(key)

    def put_file(self, key: str, path: Path) -> str:
        return self.put_bytes(key, path.read_bytes())

    def upload(self, key: str) -> InMemoryUpload:
        return InMemoryUpload(lambda data: self.put_bytes(key, data))

    def upload_requests(self, size: int) -> Mapping[str, int]:  # noqa: ARG002 (the port's)
        """One PutObject for any size."""
        return {"PutObject": 1}

    def get_bytes(self, uri: str) -> bytes:
        self.requests["GetObject"] += 1
        try:
            data = self.objects[uri.removeprefix(self.uri(""))]
        except KeyError:
            raise ObjectMissing(f"{uri}: no such object") from None
        self.moved["received"] += len(data)
        return data

    def get_range(self, uri: str, start: int, length: int) -> ObjectRange:
        received = self.moved["received"]
        data = self.get_bytes(uri)
        first = max(0, len(data) + start) if start < 0 else start
        part = data[first : first + length]
        self.moved["received"] = received + len(part)
        return ObjectRange(part, len(data))

    def get_file(self, uri: str, path: Path) -> None:
        path.write_bytes(self.get_bytes(uri))

    def keys(self, prefix: str) -> Iterator[str]:
        self.requests["ListObjectsV2"] += 1
        yield from sorted(key for key in self.objects if key.startswith(prefix))

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        for key in list(self.keys(prefix)):
            yield StoredObject(key, len(self.objects[key]), self.modified[key])

    def delete(self, keys: Sequence[str]) -> Mapping[str, str]:
        self.requests["DeleteObjects"] += 1
        for key in keys:
            self.objects.pop(key, None)
        return {}

    def unfinished_uploads(self, prefix: str) -> Iterator[UnfinishedUpload]:
        """The unfinished uploads that a test has put there."""
        yield from [upload for upload in self.uploads if upload.key.startswith(prefix)]

    def abort(self, upload: UnfinishedUpload) -> None:
        self.uploads.remove(upload)
