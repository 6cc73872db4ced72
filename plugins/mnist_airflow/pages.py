"""The pages of MNIST Ops in Airflow's UI: Airflow's users, Airflow's connections."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from fastapi import FastAPI, Request

    from mnist_ops.pipeline import Pipeline
    from mnist_ops.serving.access import Role, User

URL_PREFIX = "/mnist-ops"
DAG_ID = "classify_records"
MONGO_CONN_ID = "mongo_default"
AWS_CONN_ID = "aws_default"
CHECK_EVERY_S = 60.0


def path_of(page: str) -> str:
    """The path of a page on the UI's host, such as "/mnist-ops/models" of "/models"."""
    from airflow.sdk.configuration import conf

    base = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
    return f"{base}{URL_PREFIX}{page}"


@cache
def pages_app() -> "FastAPI":
    """The app for Airflow's API server."""
    from mnist_ops.serving.app import create_app

    return create_app(AirflowDeployment(), AirflowAccess(), airflow=True)


class AirflowAccess:
    """Airflow's user, with a role that follows from what the user may do in Airflow.

    Who may read runs of classify_records may read; who may start such runs may label; who may change
    connections may promote, roll back and release.
    """

    async def user(self, request: "Request") -> "User | None":
        """The user of a bearer token, or else of the cookie of Airflow's UI; None if neither is valid."""
        from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
        from fastapi import HTTPException
        from starlette.concurrency import run_in_threadpool

        from mnist_ops.serving.access import User

        try:
            found = await get_user(request, None, await bearer_scheme(request))
        except HTTPException:
            return None
        # An auth manager may ask a database.
        return User(found.get_name(), await run_in_threadpool(_role_of, found))

    def sign_in_url(self, request: "Request") -> str | None:
        """Airflow's page to sign in, which leads back."""
        from airflow.api_fastapi.app import get_auth_manager

        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return get_auth_manager().get_url_login(next_url=here if request.method == "GET" else None)

    def advice(self, needed: "Role") -> str:
        """Which right of Airflow gives a role."""
        from mnist_ops.serving.access import Role

        rights = {
            Role.REVIEWER: f"start runs of {DAG_ID}",
            Role.ADMIN: "change connections",
        }
        return f"In Airflow, it takes a user who may {rights.get(needed, f'read runs of {DAG_ID}')}."


def _role_of(user: "BaseUser") -> "Role":
    """The highest role that Airflow's rights give."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import (
        ConnectionDetails,
        DagAccessEntity,
        DagDetails,
    )
    from airflow.models.dag import DagModel

    from mnist_ops.serving.access import Role

    manager = get_auth_manager()
    dag: dict[str, Any] = {
        "access_entity": DagAccessEntity.RUN,
        "details": DagDetails(id=DAG_ID, team_name=DagModel.get_team_name(DAG_ID)),
        "user": user,
    }
    if not manager.is_authorized_dag(method="GET", **dag):
        return Role.NOBODY
    if not manager.is_authorized_dag(method="POST", **dag):
        return Role.VIEWER
    connection = ConnectionDetails(conn_id=MONGO_CONN_ID)
    is_admin = manager.is_authorized_connection(method="PUT", details=connection, user=user)
    return Role.ADMIN if is_admin else Role.REVIEWER


class AirflowDeployment:
    """The pipeline over Airflow's connections. Its clients are kept, and made again when these change.

    Args:
        check_every_s: how often the connections and settings are read again, in seconds.
        clock: gives seconds.
    """

    def __init__(
        self, check_every_s: float = CHECK_EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._check_every_s = check_every_s
        self._clock = clock
        self._lock = Lock()
        self._checked_at = float("-inf")
        self._made_of: object = None
        self._pipeline: Pipeline | None = None
        self._clients = ExitStack()
        self._former = ExitStack()

    def pipeline(self) -> "Pipeline":
        """The pipeline.

        Raises:
            Transient: a connection is missing or wrong, or a setting is; the request may be sent again once
                that is corrected.
        """
        from mnist_ops.domain.errors import MnistOpsError, Transient

        with self._lock:
            if self._pipeline is None or self._clock() - self._checked_at >= self._check_every_s:
                try:
                    self._renew()
                except MnistOpsError as error:
                    raise Transient(str(error)) from error
                except Exception as error:
                    # A connection that cannot be read, in the words of whichever hook noticed.
                    kind = type(error).__name__
                    raise Transient(f"the connections or settings cannot be used: {kind}") from error
            return self._pipeline

    def close(self) -> None:
        """Close every client; the next request makes new ones."""
        with self._lock:
            self._former.close()
            self._clients.close()
            self._pipeline = None

    def _renew(self) -> None:
        """Make the clients unless what they were made of is still the same.

        Requests may still use the former clients, so those are closed at the next change or check.
        """
        from airflow.sdk.bases.hook import BaseHook

        from mnist_airflow.connections import pipeline_of_connections
        from mnist_ops.settings import Settings

        self._former.close()
        settings = Settings()
        connections = [BaseHook.get_connection(name).get_uri() for name in (MONGO_CONN_ID, AWS_CONN_ID)]
        made_of = (settings, connections)
        if self._pipeline is None or made_of != self._made_of:
            clients = ExitStack()
            pipeline = clients.enter_context(pipeline_of_connections(settings, MONGO_CONN_ID, AWS_CONN_ID))
            self._former, self._clients = self._clients, clients
            self._pipeline, self._made_of = pipeline, made_of
        self._checked_at = self._clock()
