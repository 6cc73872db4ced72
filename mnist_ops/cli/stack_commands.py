"""The embedded stack and the demo: `mnist-ops stack up|down|status`, `mnist-ops demo`."""

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

import mnist_ops
from mnist_ops.domain.errors import Permanent
from mnist_ops.local import stack
from mnist_ops.local.airflow_server import Project
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST, Ports
from mnist_ops.settings import Settings

app = typer.Typer(
    help="The embedded stack: MongoDB's protocol, S3, PostgreSQL, images, Airflow.", no_args_is_help=True
)


def _layout() -> Layout:
    return Layout(Settings().local_dir)


def _report_progress(line: str) -> None:
    typer.echo(line, err=True)


def _project(ports: Ports, layout: Layout) -> Project:
    root = Path(mnist_ops.__file__).parents[1]
    if not (root / "dags").is_dir():
        raise Permanent(f"{root}: no dags folder; the stack runs from a checkout of the project")
    settings = {name: value for name, value in os.environ.items() if name.startswith("MNIST_OPS_")}
    # The image server of the stack is at a loopback address, which nothing else allows.
    hosts = {f"{HOST}:{ports.images}", *settings.get("MNIST_OPS_ALLOWED_HOSTS", "").split(",")} - {""}
    settings["MNIST_OPS_ALLOWED_HOSTS"] = ",".join(sorted(hosts))
    # Tasks run in a folder of Airflow's.
    settings.setdefault("MNIST_OPS_TRAINING_DIR", str((layout.root / "training").resolve()))
    return Project(root / "dags", root / "plugins", settings)


@app.command()
def up() -> None:
    """Start the stack, or what is missing of it, and wait until all of it answers."""
    ports = Ports.from_environment(os.environ)
    layout = _layout()
    running = _up(layout, ports)
    _prepare(layout)
    typer.echo(f"Airflow    {running.airflow_url} (user {running.airflow_user})")
    typer.echo(f"S3         {_s3_endpoint(running)}")
    typer.echo(f"MongoDB    {HOST}:{running.connections['mongo_default']['port']}")
    typer.echo(f"images     {running.images_url}")


def _up(layout: Layout, ports: Ports) -> stack.Stack:
    from mnist_ops.adapters.mongo.connection import mongo_answers

    return stack.up(
        layout,
        ports,
        mongo_answers=mongo_answers,
        project=_project(ports, layout),
        report_progress=_report_progress,
    )


def _s3_endpoint(running: stack.Stack) -> str:
    extra = running.connections["aws_default"]["extra"]
    return str(extra["endpoint_url"]) if isinstance(extra, dict) else ""


def _prepare(layout: Layout) -> None:
    """Make the bucket, the indexes, and the sample digits that the image server serves."""
    from mnist_ops.local.demo_records import write_images
    from mnist_ops.wiring import adapters_of_environment

    if not any(layout.images.iterdir()):
        write_images(layout.images)

    adapters = adapters_of_environment(Settings(), {})
    adapters.objects.ensure_bucket()
    adapters.records.ensure_indexes()


@app.command()
def down() -> None:
    """Stop the stack, and a demo's that was kept; nothing else. Data and logs stay."""
    layout = _layout()
    layouts = [each for each in (layout, _demo_layout(layout)) if each.root.exists()]
    stopped = [part for each in layouts for part in stack.down(each, report_progress=_report_progress)]
    typer.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def status() -> None:
    """Say how every part of the stack does. Exits with 1 unless all answer."""
    from mnist_ops.adapters.mongo.connection import mongo_answers

    ports = Ports.from_environment(os.environ)
    parts = stack.status(_layout(), ports, mongo_answers=mongo_answers)
    for part in parts:
        words = part.missing or f"answers, pid {part.pid}, {part.memory_bytes >> 20} MiB"
        typer.echo(f"{part.name:<10} {words}")
    raise typer.Exit(0 if all(part.answers for part in parts) else 1)


def demo(
    keep: Annotated[bool, typer.Option(help="Leave the stack running afterwards.")] = False,
) -> None:
    """Classify 1,500 records through real Airflow runs, on an embedded stack, and check every number."""
    from mnist_ops.local.demo_records import write_images

    # The demo counts on empty collections, so it has a stack of its own, made anew.
    layout = _demo_layout(_layout())
    if layout.root.exists():
        if not layout.credentials_file.exists():
            raise Permanent(
                f"{layout.root}: not the folder of a demo; move it away, or set MNIST_OPS_LOCAL_DIR"
            )
        stack.down(layout, report_progress=_report_progress)
        shutil.rmtree(layout.root)
    layout.images.mkdir(parents=True)
    write_images(layout.images)
    ports = Ports.from_environment(os.environ)
    try:
        running = _up(layout, ports)
        right = _run_demo(running, layout)
    finally:
        if not keep:
            stack.down(layout, report_progress=_report_progress)
    if keep:
        typer.echo(
            f"The stack is up. Use it with MNIST_OPS_LOCAL_DIR={layout.root}; stop it with `make down`."
        )
    raise typer.Exit(0 if right else 1)


def _demo_layout(layout: Layout) -> Layout:
    return Layout(layout.root / "demo")


def _run_demo(running: stack.Stack, layout: Layout) -> bool:
    from rich.console import Console

    from mnist_ops.adapters.airflow_rest import AirflowRest
    from mnist_ops.local.demo import Demo
    from mnist_ops.local.demo_report import show
    from mnist_ops.wiring import adapters_of_environment

    settings = Settings(local_dir=layout.root)
    adapters = adapters_of_environment(settings, {})
    adapters.objects.ensure_bucket()
    adapters.records.ensure_indexes()
    airflow = AirflowRest(running.airflow_url, running.airflow_user, running.airflow_password)
    console = Console()
    course = Demo(airflow, adapters.records, adapters.runs, adapters.models, console)
    result = course.run(running.images_url, settings.model_name)
    account = f"user {running.airflow_user}, password in {layout.airflow_passwords_file}"
    places = {
        "Airflow": f"{running.airflow_url} ({account})",
        "S3": f"{adapters.objects.uri('snapshots/')} at {_s3_endpoint(running)}",
        "logs": str(layout.log("airflow")),
    }
    show(result, console, places)
    return not result.complaints
