"""Examples of failed records: short, printable, and without secrets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.failure_examples import FailureExample, add_examples, failure_example

texts = st.text(max_size=400)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://images.example/3.png", "https://images.example/3.png"),
        ("https://bucket.example/3.png?X-Amz-Signature=secret", "https://bucket.example/3.png"),
        ("https://images.example/3.png#secret", "https://images.example/3.png"),
        ("https://ada:secret@images.example/3.png", "https://images.example/3.png"),
        ("https:///ada:secret@images.example/3.png", "https:///images.example/3.png"),
        (r"http:\\ada:secret@images.example", r"http:\\images.example"),
        ("//ada:secret@images.example/3.png", "//images.example/3.png"),
        ("https://images.example/3@2x.png", "https://images.example/3@2x.png"),
    ],
)
def test_an_example_shows_its_url_without_user_password_and_query(url: str, shown: str) -> None:
    """The query of a URL may be its signature."""
    assert failure_example('"a"', url, None)["url"] == shown


def test_the_urls_in_a_detail_lose_their_secrets_too() -> None:
    """Such as the target of a refused redirect."""
    example = failure_example('"a"', None, "https redirected to http://u:secret@h/x?sig=secret only https")
    assert example["detail"] == "https redirected to http://h/x only https"


@given(texts, texts, texts)
def test_an_example_is_short_and_printable(record_id: str, url: str, detail: str) -> None:
    """A record's text can add no line to a log."""
    for text in failure_example(record_id, url, detail).values():
        assert str(text).isprintable()
        assert len(str(text)) <= 200


def test_the_first_three_examples_of_each_reason_are_kept() -> None:
    """Over all parts of a run."""
    ones: list[FailureExample] = [failure_example(str(number), None, None) for number in range(6)]
    kept: dict[str, list[FailureExample]] = {}
    for examples in ({"timeout": ones[:2]}, {"timeout": ones[2:4], "not_found": ones[4:5]}):
        add_examples(kept, examples)
    assert kept == {"timeout": ones[:3], "not_found": ones[4:5]}
