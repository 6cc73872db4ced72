"""The embedded stack as the command line uses it. Imported only where the extra `stack` is installed."""

import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import typer
from rich.console import Console

import mnist_ops
from mnist_ops.adapters.airflow_rest import AirflowRest
from mnist_ops.adapters.mongo.connection import mongo_answers
from mnist_ops.domain.errors import Permanent, UsageError
from mnist_ops.local import airflow_server, object_store, postgres, stack
from mnist_ops.local.airflow_server import Project
from mnist_ops.local.credentials import load_or_create
from mnist_ops.local.demo import Demo
from mnist_ops.local.demo_records import write_images
from mnist_ops.local.demo_report import show, show_places
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST, Ports
from mnist_ops.settings import Settings
from mnist_ops.variables import settings_of_stack
from mnist_ops.wiring import Adapters, adapters_of_environment

# By default a task starts up to a second after the one that it waits for. Looking five times a second costs a
# scheduler CPU time also when nothing is due, so `stack up` does not.
_DEMO_OPTIONS = MappingProxyType({"SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2"})
# The demo starts every run itself, and checks what each of them took.
_DEMO_SETTINGS = MappingProxyType({"MNIST_OPS_WATCH": "false"})


def start_stack(environment: Mapping[str, str]) -> dict[str, str]:
    """Start the stack with its bucket, indexes and sample digits; returns the addresses of its parts."""
    ports, layout = Ports.from_environment(environment), _layout()
    running = _up(environment, layout, ports)
    if not any(layout.images.iterdir()):
        write_images(layout.images)
    _prepared_adapters(Settings())
    return {
        "Airflow": f"{running.airflow_url} (user {running.airflow_user})",
        "S3": object_store.endpoint(running.ports),
        "MongoDB": f"{HOST}:{running.ports.mongo}",
        "images": running.images_url,
    }


def stop_stacks() -> list[str]:
    """Stop the stack and a demo's that was kept; returns the names of the parts that ran."""
    layout = _layout()
    layouts = [each for each in (layout, _demo_layout(layout)) if each.root.exists()]
    return [part for each in layouts for part in stack.down(each, report_progress=_report_progress)]


def stack_status(environment: Mapping[str, str]) -> list[stack.PartStatus]:
    """The state of every part of the stack."""
    ports = Ports.from_environment(environment)
    return list(stack.status(_layout(), ports, mongo_answers=mongo_answers))


def airflow_command(caller: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
    """Airflow's command line, and the environment in which it works on the running stack.

    Args:
        caller: the environment of the caller, which decides which of Python's warnings are shown.

    Raises:
        UsageError: no stack runs.
    """
    layout = _layout()
    running, metadata_uri = stack.load(layout), postgres.running_uri(layout)
    if running is None or metadata_uri is None:
        raise UsageError(
            f"no embedded stack runs in {layout.root}: start it with `mnist-ops stack up`, "
            "or set MNIST_OPS_LOCAL_DIR to its folder"
        )
    environment = airflow_server.environment(
        layout,
        running.ports,
        load_or_create(layout),
        project=_project(running.settings),
        connections=running.connections,
        metadata_uri=metadata_uri,
    )
    # Airflow writes Python's warnings to standard output, into its tables and JSON.
    return layout.airflow_program, environment | {"PYTHONWARNINGS": caller.get("PYTHONWARNINGS", "ignore")}


def run_demo(environment: Mapping[str, str], *, keep: bool) -> bool:
    """Run the demo on a new stack and report on standard output; returns whether every number is right.

    Raises:
        Permanent: the folder of the demo's stack holds something else.
    """
    started, layout, console = time.monotonic(), _demo_layout(_layout()), Console()
    ports = Ports.from_environment(environment)
    console.print("Starting a real Airflow and what it needs, all on 127.0.0.1", highlight=False)
    _remove_former_demo(layout)
    layout.images.mkdir(parents=True)
    try:
        with ThreadPoolExecutor(1) as pool:
            # While Airflow starts, which takes longer.
            images = pool.submit(write_images, layout.images)
            running = _up({**environment, **_DEMO_SETTINGS}, layout, ports, _DEMO_OPTIONS)
            images.result()
        passed = _demo_passes(running, layout, console)
    finally:
        if not keep:
            stack.down(layout, report_progress=_report_progress)
    show_places(running, layout, console, seconds=time.monotonic() - started, keep=keep)
    return passed


def _layout() -> Layout:
    return Layout(Settings().local_dir)


def _demo_layout(layout: Layout) -> Layout:
    # The demo relies on empty collections, so it has a stack of its own.
    return Layout(layout.root / "demo")


def _remove_former_demo(layout: Layout) -> None:
    if not layout.root.exists():
        return
    if not layout.credentials_file.exists():
        raise Permanent(f"{layout.root}: not the folder of a demo; move it away, or set MNIST_OPS_LOCAL_DIR")
    stack.down(layout, report_progress=_report_progress)
    shutil.rmtree(layout.root)


def _report_progress(line: str) -> None:
    typer.echo(line, err=True)


def _up(
    environment: Mapping[str, str], layout: Layout, ports: Ports, options: Mapping[str, str] | None = None
) -> stack.Stack:
    return stack.up(
        layout,
        ports,
        mongo_answers=mongo_answers,
        project=_project(settings_of_stack(environment, ports, layout.root), options),
        report_progress=_report_progress,
    )


def _project(settings: Mapping[str, str], options: Mapping[str, str] | None = None) -> Project:
    root = Path(mnist_ops.__file__).parents[1]
    if not (root / "dags").is_dir():
        raise Permanent(f"{root}: no dags folder; the stack runs from a checkout of the project")
    return Project(root / "dags", root / "plugins", settings, options or {})


def _prepared_adapters(settings: Settings) -> Adapters:
    """The adapters of the running stack, with its bucket and its indexes made."""
    adapters = adapters_of_environment(settings, {})
    adapters.objects.ensure_bucket()
    adapters.records.ensure_indexes()
    adapters.runs.ensure_indexes()
    return adapters


def _demo_passes(running: stack.Stack, layout: Layout, console: Console) -> bool:
    settings = Settings(local_dir=layout.root)
    adapters = _prepared_adapters(settings)
    airflow = AirflowRest(running.airflow_url, running.airflow_user, running.airflow_password)
    demo = Demo(airflow, adapters.records, adapters.runs, adapters.models, console)
    result = demo.run(running.images_url, settings.model_name)
    show(result, console)
    return not result.complaints
