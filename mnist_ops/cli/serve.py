"""`mnist-ops serve`: the pages and the REST API without Airflow."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli._support.extras import require_extras
from mnist_ops.cli._support.logs import start_log
from mnist_ops.domain.errors import UsageError
from mnist_ops.local.ports import HOST
from mnist_ops.settings import settings_of

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

# Connections at once; more are answered with 503. Images in memory are limited besides.
_MAX_CONNECTIONS = 1_000
_KEEP_ALIVE_S = 30
_STOP_WITHIN_S = 10


def serve(
    host: Annotated[
        str,
        typer.Option(help="The address to listen on. Others than this machine's need MNIST_OPS_SERVE_HOSTS."),
    ] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 for any free one.")] = 8090,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes, each with the model in its memory.")
    ] = 1,
) -> None:
    """Serve the pages and the REST API (docs/serving.md), until it is stopped."""
    require_extras("serve", "serving")
    settings_of(os.environ)  # wrong settings end here, rather than in every worker
    run_server(f"{__name__}:serving_app", host, port, workers)


def run_server(app: str, host: str, port: int, workers: int) -> None:
    """Serve an application until the process is told to stop, by SIGTERM or by Ctrl-C.

    Args:
        app: `module:function`, which makes the application in each worker.
        host: the address to listen on.
        port: 0 for any free one; the address is printed.
        workers: the number of processes.

    Raises:
        UsageError: the address is not one of this machine, or is taken.
    """
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    config = server_config(app, workers)
    with listening(host, port) as listener, suppress(KeyboardInterrupt):
        typer.echo(f"http://{host}:{listener.getsockname()[1]}")
        if workers == 1:
            uvicorn.Server(config).run([listener])
        else:
            Multiprocess(config, [listener]).run()


def server_config(app: "str | Callable[[], FastAPI]", workers: int) -> "uvicorn.Config":
    """How the server is set up, for an application that `app` makes."""
    import uvicorn

    return uvicorn.Config(
        app,
        factory=True,
        workers=workers,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_STOP_WITHIN_S,
    )


def serving_app() -> "FastAPI":
    """The application over the environment's connections; each worker makes its own.

    The champion is loaded at once, and not by the first request.
    """
    from mnist_ops.pipeline import pipeline_of_environment
    from mnist_ops.serving.alone import alone_app

    start_log()
    app = alone_app(pipeline_of_environment(os.environ))
    app.state.predictions.champions.start()
    return app


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: the address is not one of this machine, or is taken.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UsageError(
            f"--host {host} --port {port}: {error.strerror or error}; choose another port, or stop what "
            "listens there"
        ) from error
