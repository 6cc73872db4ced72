"""The table between class indices and the labels people read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.labels import DIGITS, LabelTable


@given(st.integers(0, 9))
def test_a_name_leads_back_to_its_class(index: int) -> None:
    """The table is a bijection."""
    assert DIGITS.index(DIGITS.name(index)) == index


@given(st.integers(0, 9))
def test_a_label_is_found_by_its_name_and_by_its_index(index: int) -> None:
    """All accepted spellings of a digit give the same class."""
    name = DIGITS.name(index)
    assert {DIGITS.index(spelling) for spelling in (name, f" {name.upper()} ", index, str(index))} == {index}


@pytest.mark.parametrize("label", ["seven", "Seven", " SEVEN ", "7", " 7", 7])
def test_people_may_write_a_label_in_several_ways(label: object) -> None:
    """Case and spaces do not matter, and the index is a label too."""
    assert DIGITS.index(label) == 7


@pytest.mark.parametrize(
    "label", ["", "ten", "10", "07", "٣", "9" * 5000, b"seven", b"7", ["seven"], {"$gt": ""}]
)
def test_what_is_no_label_means_no_class(label: object) -> None:
    """A label is never guessed or evaluated."""
    assert DIGITS.index(label) is None


@pytest.mark.parametrize("label", [None, True, False, 10, -1, 7.5, float("nan")])
def test_a_number_that_is_no_index_means_no_class(label: object) -> None:
    """It is never rounded, and a truth value is not a number."""
    assert DIGITS.index(label) is None


@given(st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none()))
def test_no_label_makes_the_table_fail(label: object) -> None:
    """A record may hold any value."""
    assert DIGITS.index(label) in {None, *range(10)}


@pytest.mark.parametrize("index", [-1, 10])
def test_a_class_outside_the_table_has_no_name(index: int) -> None:
    """A negative index does not count from the end."""
    with pytest.raises(IndexError, match=r"outside 0\.\.9"):
        DIGITS.name(index)


@pytest.mark.parametrize(
    "names", [("one", "one"), ("one", "ONE"), ("o ne", "one"), ("one", " One"), ("one", ""), ("one", " ")]
)
def test_two_classes_never_share_a_name(names: tuple[str, ...]) -> None:
    """Nor has a class an empty one."""
    with pytest.raises(ValueError, match="distinct"):
        LabelTable(names)


@given(st.sets(st.text("abcxyz", min_size=1, max_size=3), min_size=1, max_size=10))
def test_any_table_of_distinct_names_is_a_bijection(names: set[str]) -> None:
    """The digits are not special."""
    table = LabelTable(tuple(sorted(names)))
    assert [table.index(table.name(index)) for index in range(len(names))] == list(range(len(names)))


def test_a_whole_number_may_be_stored_as_a_float():
    """JavaScript has no other numbers, so websites store them so."""
    assert DIGITS.index(7.0) == 7
