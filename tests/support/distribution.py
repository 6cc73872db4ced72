"""How pytest-xdist distributes the tests.

Tests that use the same costly fixtures run in one process; the longest groups start first.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Each line is a group of folders, whose tests run in one process. The groups start in this order, so that no
# process is left with a long one at the end. Each other file is a group by itself; these come last.
GROUPS = (
    ("tests/e2e/",),  # one course through one deployment
    ("tests/airflow/",),  # Airflow's metadata, and the model that train_lenet has trained
    ("tests/unit/steps/", "tests/unit/cli/"),  # a model that the real steps have trained and released
    ("tests/unit/vision/",),  # a model and its bundle
)


def group_of(nodeid: str) -> str:
    """The group of a test, named by its first folder, or the test's file."""
    return next((group[0] for group in GROUPS if nodeid.startswith(group)), nodeid.partition("::")[0])


def rank_of(nodeid: str) -> int:
    """The position of a test's group in the order in which groups start."""
    return next((rank for rank, group in enumerate(GROUPS) if nodeid.startswith(group)), len(GROUPS))


class ByFixtures(LoadScopeScheduling):
    """Gives each process one group after the other, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        self.config.option.loadscopereorder = False  # it would begin with the group that has the most tests

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
