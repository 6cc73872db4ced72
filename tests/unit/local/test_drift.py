"""A running stack keeps what it was started with; a command that asks for something else is refused."""

import pytest

from mnist_ops.domain.errors import UsageError
from mnist_ops.local.credentials import Credentials
from mnist_ops.local.drift import refuse_changes
from mnist_ops.local.parts import PARTS
from mnist_ops.local.ports import Ports
from mnist_ops.local.state import Stack, describe


def stack(ports: Ports | None = None, **settings: str) -> Stack:
    """A stack with settings, given without `MNIST_OPS_`, that allows its own image server."""
    ports = ports or Ports()
    named = {f"MNIST_OPS_{name.upper()}": value for name, value in settings.items()}
    own = {"MNIST_OPS_ALLOWED_HOSTS": f"127.0.0.1:{ports.images}"}
    return describe(ports, Credentials(*["secret"] * 6), own | named)


def refused_lines(before: Stack | None, wanted: Stack, running: tuple[str, ...] = PARTS) -> list[str]:
    """The lines of the error."""
    with pytest.raises(UsageError) as refused:
        refuse_changes(before, wanted, running)
    return str(refused.value).splitlines()


def test_each_setting_that_differs_has_a_line_with_both_values() -> None:
    """Set then and now, set then only, set now only; the last line says what to do."""
    before = stack(threads="2", s3_prefix="a", device="cpu")
    wanted = stack(threads="4", device="cpu", review_below="0.5")
    assert refused_lines(before, wanted) == [
        "the running stack was started with other settings:",
        "  MNIST_OPS_REVIEW_BELOW: running with its default, wanted 0.5",
        "  MNIST_OPS_S3_PREFIX: running with a, wanted its default",
        "  MNIST_OPS_THREADS: running with 2, wanted 4",
        "stop the stack first (`mnist-ops stack down`), then start it (`mnist-ops stack up`)",
    ]


def test_equal_settings_are_not_refused() -> None:
    """`up` on a running stack does nothing."""
    refuse_changes(stack(threads="2"), stack(threads="2"), PARTS)


def test_another_port_of_the_image_server_has_one_line() -> None:
    """The stack's own entry among the allowed hosts follows the port."""
    before, wanted = stack(Ports(images=8334)), stack(Ports(images=9000))
    assert refused_lines(before, wanted)[1:-1] == ["  MNIST_OPS_PORT_IMAGES: running with 8334, wanted 9000"]


def test_allowed_hosts_are_compared_without_the_stacks_own() -> None:
    """A host that was added differs."""
    wanted = stack(allowed_hosts="127.0.0.1:8334,images.internal:80")
    assert refused_lines(stack(), wanted)[1:-1] == [
        "  MNIST_OPS_ALLOWED_HOSTS: running with its default, wanted images.internal:80"
    ]


def test_a_running_airflow_keeps_the_ports_of_parts_that_do_not_run() -> None:
    """Its connections name them."""
    before, wanted = stack(), stack(Ports(s3=9333))
    assert refused_lines(before, wanted, ("postgres", "airflow"))[1:-1] == [
        "  MNIST_OPS_PORT_S3: running with 8333, wanted 9333"
    ]


def test_without_airflow_other_settings_are_taken() -> None:
    """The other parts do not read them."""
    refuse_changes(stack(threads="2"), stack(threads="4"), ("mongo", "s3", "images", "postgres"))


def test_without_airflow_only_the_ports_of_running_parts_are_kept() -> None:
    """A part that does not run may start anywhere."""
    before, wanted = stack(), stack(Ports(mongo=9027, s3=9333))
    refuse_changes(before, wanted, ("images",))
    assert refused_lines(before, wanted, ("mongo",))[1:-1] == [
        "  MNIST_OPS_PORT_MONGO: running with 27117, wanted 9027"
    ]


def test_an_airflow_of_unknown_settings_is_refused() -> None:
    """Nothing could be compared."""
    assert refused_lines(None, stack())[0].startswith("Airflow runs, but stack.json is missing")
    refuse_changes(None, stack(), ("mongo", "s3"))
