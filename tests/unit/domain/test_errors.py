"""Every error of ours is in one tree, split by what the caller does."""

import importlib
import inspect
import pkgutil

import pytest

import mnist_ops
from mnist_ops.domain.errors import (
    Damaged,
    ItemRejected,
    MnistOpsError,
    ObjectMissing,
    OutcomeUnknown,
    Permanent,
    Transient,
    UsageError,
)
from mnist_ops.domain.reasons import Reason


def error_classes() -> list[type[BaseException]]:
    """Return all exception classes that a module of ours defines."""
    found = []
    for module in pkgutil.walk_packages(mnist_ops.__path__, "mnist_ops."):
        if module.name.endswith("__main__"):
            continue
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(cls, BaseException) and cls.__module__ == module.name:
                found.append(cls)
    return found


def test_every_error_of_ours_is_in_the_tree() -> None:
    """Catching MnistOpsError catches every error of this library."""
    strangers = [cls for cls in error_classes() if not issubclass(cls, MnistOpsError)]
    assert strangers == []


def test_the_tree_is_the_one_that_is_documented() -> None:
    """The docstring of the module names each class."""
    tree = set(error_classes())
    assert tree >= {MnistOpsError, Transient, OutcomeUnknown, Permanent, UsageError, ObjectMissing, Damaged}
    assert ItemRejected in tree
    documentation = inspect.getdoc(inspect.getmodule(MnistOpsError)) or ""
    assert [cls.__name__ for cls in tree if cls.__name__ not in documentation] == []


@pytest.mark.parametrize(
    ("error", "parent"),
    [
        (OutcomeUnknown, Transient),
        (UsageError, Permanent),
        (ObjectMissing, Permanent),
        (Damaged, Permanent),
    ],
)
def test_a_special_error_is_answered_like_its_parent(error: type, parent: type) -> None:
    """A caller who knows the three branches knows enough."""
    assert issubclass(error, parent)


def test_the_branches_do_not_overlap() -> None:
    """An error is retried, or fails now, or rejects one item."""
    branches = (Transient, Permanent, ItemRejected)
    for cls in error_classes():
        assert cls is MnistOpsError or sum(issubclass(cls, branch) for branch in branches) == 1


def test_a_rejection_carries_its_reason_and_a_detail() -> None:
    """Both are in its text, for logs."""
    rejection = ItemRejected(Reason.NOT_AN_IMAGE, "a text")
    assert (rejection.reason, rejection.detail) == (Reason.NOT_AN_IMAGE, "a text")
    assert str(rejection) == "not_an_image: a text"
