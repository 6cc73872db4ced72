"""How pytest-xdist distributes the tests.

Tests that use the same costly fixtures run in one process; the longest groups start first.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# The tests below each of these folders are one group, which runs in one process. The groups start in this
# order, so that no process is left with a long one at the end. Each other file is a group of its own; these
# come last.
GROUPS = (
    "tests/e2e/",  # one course through one deployment
    "tests/airflow/",  # Airflow's metadata, and the model that train_lenet has trained
    "tests/unit/steps/",  # a model that the real steps have trained and released
    "tests/unit/vision/",  # a model and its bundle
)


def group_of(nodeid: str) -> str:
    """The tests that run in the same process as this one: a folder, or its own file."""
    return next((folder for folder in GROUPS if nodeid.startswith(folder)), nodeid.partition("::")[0])


def rank_of(nodeid: str) -> int:
    """The position of a test's group in the order in which groups start."""
    group = group_of(nodeid)
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


class ByFixtures(LoadScopeScheduling):
    """Gives each process one group after the other, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        self.config.option.loadscopereorder = False  # it would begin with the group that has the most tests

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
