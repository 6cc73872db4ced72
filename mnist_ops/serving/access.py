"""Who asks, and what they may do."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Protocol

from fastapi import Depends, Request

from mnist_ops.serving.problems import Problem
from mnist_ops.serving.templating import USER_STATE


class Role(IntEnum):
    """What somebody may do; each role may do what the ones before it may."""

    NOBODY = 0  # known by name, and may see nothing
    VIEWER = 1  # may read
    REVIEWER = 2  # may label records and ask for failed ones again
    ADMIN = 3  # may promote, roll back and release


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who asks.

    Attributes:
        name: is written beside what the user changes.
        role: what the user may do.
    """

    name: str
    role: Role

    def may(self, role: str) -> bool:
        """Whether the user has a role, named in lower case; for templates."""
        return self.role >= Role[role.upper()]


class Access(Protocol):
    """Recognises the user of a request: by Airflow, or by a token."""

    async def user(self, request: Request) -> User | None:
        """Who asks; None if that is not known."""

    def sign_in_url(self, request: Request) -> str | None:
        """Where a person signs in and comes back; None if nobody can."""

    def advice(self, needed: Role) -> str:
        """What somebody does who lacks a role, as a sentence or two."""


async def user_of(request: Request) -> User | None:
    """Who asks, recognised once a request."""
    if not hasattr(request.state, USER_STATE):
        access: Access = request.app.state.access
        setattr(request.state, USER_STATE, await access.user(request))
    user: User | None = getattr(request.state, USER_STATE)
    return user


async def require(request: Request, role: Role) -> User:
    """The user of a request, who has a role.

    Raises:
        Problem: 401, nobody knows who asks; 403, the role is missing.
    """
    access: Access = request.app.state.access
    user = await user_of(request)
    if user is None:
        raise Problem(401, "Sign in first", access.advice(role), sign_in=access.sign_in_url(request))
    if user.role < role:
        has = user.role.name.lower()
        detail = f"This needs the role {role.name.lower()}; {user.name} has the role {has}."
        raise Problem(403, "You may not do this", f"{detail} {access.advice(role)}")
    return user


def _with(role: Role) -> Callable[[Request], Awaitable[User]]:
    async def dependency(request: Request) -> User:
        return await require(request, role)

    return dependency


viewer = _with(Role.VIEWER)
Viewer = Annotated[User, Depends(viewer)]
Reviewer = Annotated[User, Depends(_with(Role.REVIEWER))]
Admin = Annotated[User, Depends(_with(Role.ADMIN))]
