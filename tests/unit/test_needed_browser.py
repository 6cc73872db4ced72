"""Tests in a browser are skipped only where there is none."""

import pytest

from tests.e2e import browser


@pytest.mark.parametrize(
    ("required", "outcome"), [("required", pytest.fail.Exception), ("", pytest.skip.Exception)]
)
def test_without_a_browser_tests_are_skipped_unless_one_is_required(monkeypatch, required, outcome) -> None:
    """CI requires the one that it has found or installed: a skipped test shows nothing."""
    monkeypatch.setattr(browser, "executable", lambda: None)
    monkeypatch.setenv(browser.REQUIRED, required)
    with pytest.raises(outcome, match="no Chromium"):
        browser.needed_executable()
