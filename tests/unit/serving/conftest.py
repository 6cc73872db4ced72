"""The application over a pipeline in memory, as somebody with a role sees it."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from fastapi import Request
from starlette.testclient import TestClient

from mnist_ops.pipeline import Pipeline as Steps
from mnist_ops.serving.access import Role, User
from mnist_ops.serving.app import create_app
from tests.support.pipeline_in_memory import Pipeline

Client = Callable[..., TestClient]


@dataclass(frozen=True)
class OnePipeline:
    """Implements `mnist_ops.serving.deployment.Deployment`."""

    steps: Steps

    def pipeline(self) -> Steps:
        """The pipeline."""
        return self.steps


@dataclass(frozen=True)
class EverybodyIs:
    """Implements `mnist_ops.serving.access.Access`: takes everybody for one user, or for nobody known."""

    who: User | None

    async def user(self, request: Request) -> User | None:
        """That user."""
        return self.who

    def sign_in_url(self, request: Request) -> str | None:
        """A page of another application."""
        return "/sign-in"

    def advice(self, needed: Role) -> str:
        """What to do."""
        return "Ask ada."


@pytest.fixture
def client(pipeline: Pipeline) -> Client:
    """Makes a client: `client(Role.ADMIN)`, `client(None)` for nobody known; the user's name is vera.

    By default the application is over `pipeline`; `client(role, steps)` takes other steps. `airflow=True`
    gives the pages as Airflow serves them.
    """

    def make(role=Role.VIEWER, steps=None, *, airflow=False):
        user = None if role is None else User("vera", role)
        app = create_app(OnePipeline(steps or pipeline.steps()), EverybodyIs(user), airflow=airflow)
        return TestClient(app, base_url="http://mnist-ops.test", raise_server_exceptions=False)

    return make
