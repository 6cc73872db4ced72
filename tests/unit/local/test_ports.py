"""The ports of the embedded stack and the variables that set them."""

import dataclasses

import pytest

from mnist_ops.domain.errors import Permanent, UsageError
from mnist_ops.local.ports import S3_INTERNAL_PORTS, Ports, require_free, variable


def test_every_port_has_a_variable():
    """Named after the field."""
    names = [field.name for field in dataclasses.fields(Ports)]
    environment = {variable(name): str(30_000 + number) for number, name in enumerate(names)}
    assert dataclasses.astuple(Ports.from_environment(environment)) == (
        30_000,
        30_001,
        30_002,
        30_003,
        30_004,
    )


def test_an_unset_or_empty_variable_means_the_default():
    """As everywhere in the settings."""
    assert Ports.from_environment({"MNIST_OPS_PORT_MONGO": ""}) == Ports()


@pytest.mark.parametrize("text", ["0", "65536", "-1", "8080.0", "http", " 8080"])
def test_what_is_no_port_is_refused_with_the_name_of_its_variable(text):
    """The message says where to fix it."""
    with pytest.raises(UsageError, match="MNIST_OPS_PORT_AIRFLOW"):
        Ports.from_environment({"MNIST_OPS_PORT_AIRFLOW": text})


def test_the_default_ports_are_all_different():
    """A stack must start without any setting."""
    of_parts = [Ports().of(part) for part in ("mongo", "s3", "images", "airflow")]
    assert len({port for ports in of_parts for port in ports}) == sum(len(ports) for ports in of_parts)
    assert len(Ports().of("s3")) == 1 + S3_INTERNAL_PORTS


def test_postgres_listens_on_no_port():
    """It has a Unix socket."""
    assert not Ports().of("postgres")


def test_a_port_given_to_two_parts_is_refused(monkeypatch):
    """Before either is started."""
    monkeypatch.setattr("mnist_ops.local.ports._is_free", lambda _: True)
    with pytest.raises(
        UsageError, match="port 31000 is given to mongo and to images: set MNIST_OPS_PORT_IMAGES"
    ):
        require_free(Ports(mongo=31_000, images=31_000), ("mongo", "images"))


def test_a_taken_port_is_refused_in_one_line_with_part_and_variable(monkeypatch):
    """The contract tests do it with a real listener."""
    monkeypatch.setattr("mnist_ops.local.ports._is_free", lambda port: port != 18_335)
    with pytest.raises(Permanent) as refused:
        require_free(Ports(), ("mongo", "s3"))
    assert str(refused.value) == (
        "port 18335, which s3 needs, is taken by another program: "
        "set MNIST_OPS_PORT_S3_INTERNAL to a free one"
    )
