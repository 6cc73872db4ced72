"""The resume token of a trigger, in the state store of the asset that it watches for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

_KEY = "resume_token"


@dataclass(frozen=True)
class AssetTokens:
    """A key in an asset's state store, which outlives the triggerer. Implements `TokenStore`.

    Attributes:
        store: of the asset; None where the trigger watches for no asset, and then nothing is kept.
    """

    store: "AssetStateStoreAccessors | None"

    async def load(self) -> str | None:
        """The token; None if there is none."""
        if self.store is None:
            return None
        with _transient():
            token = await self.store.aget(_KEY)
        return token if isinstance(token, str) else None

    async def save(self, token: str) -> None:
        """Replace the token."""
        if self.store is not None:
            with _transient():
                await self.store.aset(_KEY, token)

    async def clear(self) -> None:
        """Forget the token."""
        if self.store is not None:
            with _transient():
                await self.store.adelete(_KEY)


@contextmanager
def _transient() -> Iterator[None]:
    """Whatever Airflow raises as `Transient`: its API server may not answer for a while.

    Not all of it is an `AirflowException`. An error that ended the trigger would come again every second.
    """
    from mnist_ops.domain.errors import Transient

    try:
        yield
    except Exception as error:
        raise Transient(f"the state store of the asset: {error}") from error
