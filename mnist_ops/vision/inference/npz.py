"""Named arrays of numbers and text as the bytes of an npz file; nothing is ever unpickled."""

import io
import zipfile
import zlib
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent

# Whatever numpy raises on bytes that are no npz file, or one that holds a pickle or lies about its size.
_FOREIGN = (
    ValueError, KeyError, OSError, EOFError, AttributeError, NotImplementedError, RuntimeError,
    MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def npz_bytes(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Arrays as the bytes of an npz file: the same for the same arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def arrays_of(content: bytes, names: Collection[str]) -> dict[str, NDArray[np.generic]]:
    """Read what `npz_bytes` gave.

    Args:
        content: the bytes of an npz file.
        names: the arrays that it must hold, and no other.

    Raises:
        Permanent: it is no npz file, holds other arrays, or one of Python objects.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            if sorted(archive.files) != sorted(names):
                raise Permanent(f"holds the arrays {sorted(archive.files)}, not {sorted(names)}")
            return {name: archive[name] for name in names}
    except _FOREIGN as error:
        raise Permanent(f"no npz file of plain arrays: {error}") from error
