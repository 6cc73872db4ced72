"""What differs between the stack that runs and the one that a command asks for.

Airflow and its tasks keep the ports, connections and settings that Airflow was started with.
"""

from collections.abc import Collection
from dataclasses import dataclass

from mnist_ops.domain.errors import UsageError
from mnist_ops.local import airflow_server
from mnist_ops.local.ports import HOST, variable
from mnist_ops.local.state import Stack

ALLOWED_HOSTS = "MNIST_OPS_ALLOWED_HOSTS"
_START_AGAIN = "stop the stack first (`mnist-ops stack down`), then start it (`mnist-ops stack up`)"


@dataclass(frozen=True, slots=True)
class Difference:
    """A variable that has another value than the running stack was started with.

    Attributes:
        variable: its name.
        running: the value of the running stack; None if it has the default.
        wanted: the value that is asked for; None if that is the default.
    """

    variable: str
    running: str | None
    wanted: str | None

    def __str__(self) -> str:
        running, wanted = (value or "its default" for value in (self.running, self.wanted))
        return f"{self.variable}: running with {running}, wanted {wanted}"


def refuse_changes(before: Stack | None, wanted: Stack, running: Collection[str]) -> None:
    """Refuse to start a stack beside running parts that were started in another way.

    Args:
        before: the stack as it was started; None if that is not known.
        wanted: the stack that is asked for.
        running: the parts that run.

    Raises:
        UsageError: something differs: a line for each port and setting, and what to do.
    """
    if before is None:
        if airflow_server.NAME in running:
            raise UsageError(
                f"Airflow runs, but stack.json is missing, so its settings are not known: {_START_AGAIN}"
            )
        return
    changed = differences(before, wanted, running)
    if changed:
        listed = "".join(f"\n  {each}" for each in changed)
        raise UsageError(f"the running stack was started with other settings:{listed}\n{_START_AGAIN}")


def differences(before: Stack, wanted: Stack, running: Collection[str]) -> list[Difference]:
    """The ports and settings of the running parts that differ, ordered by their variables."""
    has_airflow = airflow_server.NAME in running
    # Airflow's connections and settings name the ports of the others.
    parts = ("mongo", "s3", "images", "airflow") if has_airflow else running
    names = sorted({name for part in parts for name in before.ports.of(part).values()})
    then = {variable(name): str(getattr(before.ports, name)) for name in names}
    now = {variable(name): str(getattr(wanted.ports, name)) for name in names}
    if has_airflow:
        then |= _without_own_host(before)
        now |= _without_own_host(wanted)
    return [
        Difference(name, then.get(name), now.get(name))
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]


def _without_own_host(stack: Stack) -> dict[str, str]:
    """The settings without the stack's own image server among the allowed hosts: its port has a line."""
    own = f"{HOST}:{stack.ports.images}"
    hosts = [host for host in stack.settings.get(ALLOWED_HOSTS, "").split(",") if host and host != own]
    others = {name: value for name, value in stack.settings.items() if name != ALLOWED_HOSTS}
    return others | ({ALLOWED_HOSTS: ",".join(hosts)} if hosts else {})
