"""Write and read npz files of numbers and text; nothing is ever unpickled."""

import io
import zipfile
import zlib
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from mnist_ops.domain.errors import Permanent

# What numpy raises for bytes that are not an npz file, hold a pickle, or declare a false size.
_INVALID = (
    ValueError, KeyError, OSError, EOFError, AttributeError, NotImplementedError, RuntimeError,
    MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def npz_bytes(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """The bytes of an npz file of arrays; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def read_npz(content: bytes, names: Collection[str]) -> dict[str, NDArray[np.generic]]:
    """Read the arrays of an npz file, which must hold those of these names and no others.

    Raises:
        Permanent: it is not an npz file, holds other arrays, or holds Python objects.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            if sorted(archive.files) != sorted(names):
                raise Permanent(f"holds the arrays {sorted(archive.files)}, not {sorted(names)}")
            return {name: archive[name] for name in names}
    except _INVALID as error:
        raise Permanent(f"not an npz file of plain arrays: {error}") from error
