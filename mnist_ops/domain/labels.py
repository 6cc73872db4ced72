"""The lookup table between class indices and the labels people read."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The human-readable labels of a classifier's outputs.

    Attributes:
        names: one label a class, in the order of the outputs; distinct when case and spaces are ignored.

    Raises:
        ValueError: a name is empty, or two names are equal.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        keys = {_key(name) for name in self.names}
        if "" in keys or len(keys) != len(self.names):
            raise ValueError(f"labels must be distinct and not empty: {self.names}")

    def name(self, index: int) -> str:
        """The label of class `index`, 0 to classes - 1.

        Raises:
            IndexError: there is no such class.
        """
        if not 0 <= index < len(self.names):
            raise IndexError(f"class {index} is outside 0..{len(self.names) - 1}")
        return self.names[index]

    def index(self, label: object) -> int | None:
        """The class that a record's label names; None if it names none.

        Accepts a name (ignoring case and spaces) or the index, as a whole number or its decimal digits.
        """
        if isinstance(label, bool):  # an int in Python, but not a digit
            return None
        if isinstance(label, float) and label.is_integer():  # how JavaScript stores numbers
            label = int(label)
        if isinstance(label, int):
            return int(label) if 0 <= label < len(self.names) else None
        if not isinstance(label, str):
            return None
        key = _key(label)
        for index, name in enumerate(self.names):
            if key in (_key(name), str(index)):
                return index
        return None


def _key(label: str) -> str:
    return "".join(label.split()).casefold()


DIGITS = LabelTable(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"))
