"""The image server: serves the files of one folder, the sample digits, on 127.0.0.1.

The stack starts it as a process: `python -m mnist_ops.local.image_server --port 8334 --root FOLDER`.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST, Ports
from mnist_ops.local.readiness import Probe, request
from mnist_ops.local.service import Service, inherited_environment

if TYPE_CHECKING:
    from starlette.applications import Starlette

NAME = "images"


def service(layout: Layout, ports: Ports) -> Service:
    """Describe the image server's process; it serves `layout.images`."""
    command = (
        *(sys.executable, "-m", "mnist_ops.local.image_server"),
        *("--port", str(ports.images), "--root", str(layout.images)),
    )
    return Service(NAME, command, inherited_environment(), probe(ports))


def url(ports: Ports) -> str:
    """Return the URL of the served folder, without a slash at its end."""
    return f"http://{HOST}:{ports.images}"


def probe(ports: Ports) -> Probe:
    """Return a probe of whether the image server answers."""
    return lambda: None if request(url(ports)) else f"an answer at {HOST}:{ports.images}"


def static_files(root: Path) -> "Starlette":
    """Return an ASGI app that serves the files below a folder, without listings.

    A symbolic link that leads out of the folder is not followed: the answer is 404.
    """
    # Installed with the stack only; the command line imports this module without it.
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.routing import Mount  # noqa: PLC0415
    from starlette.staticfiles import StaticFiles  # noqa: PLC0415

    return Starlette(routes=[Mount("/", StaticFiles(directory=root))])


def main(arguments: list[str] | None = None) -> None:
    """Run the server from the command line until a signal ends it."""
    import uvicorn  # noqa: PLC0415  (as Starlette)

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="the port to listen on, on 127.0.0.1")
    parser.add_argument("--root", type=Path, required=True, help="the folder to serve")
    given = parser.parse_args(arguments)
    uvicorn.run(
        static_files(given.root),
        host=HOST,
        port=given.port,
        lifespan="off",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
