"""docs/settings.md says what the code says."""

import dataclasses

from mnist_ops.local.ports import Ports
from mnist_ops.settings import Settings
from tests.support.settings_page import PAGE, SECTIONS, attributes_of, page


def test_every_setting_and_port_is_described() -> None:
    """In the docstring of its class, in the order of the fields."""
    assert [*attributes_of(Settings)] == [*Settings.model_fields]
    assert [*attributes_of(Ports)] == [field.name for field in dataclasses.fields(Ports)]
    assert SECTIONS.keys() <= Settings.model_fields.keys()


def test_the_page_of_settings_is_up_to_date() -> None:
    """Write it again with: .venv/bin/python -m tests.support.settings_page."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_readme_leads_to_the_page() -> None:
    """People look there first."""
    assert "(docs/settings.md)" in (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
