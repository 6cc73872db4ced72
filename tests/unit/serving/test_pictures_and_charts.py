"""What pages show as images: encoded again, and with a text alternative."""

import base64
import io
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.serving.charts import probability_bars, share_bar
from mnist_ops.serving.pictures import as_fetched, as_network_sees_it
from tests.support.pipeline_in_memory import png_of


def opened(uri: str) -> Image.Image:
    """The PNG in a data URI."""
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_a_fetched_image_is_encoded_again() -> None:
    """What is hidden in the file is not passed on to browsers."""
    payload = png_of(0) + b"<script>alert(1)</script>"
    uri = as_fetched(payload)
    assert b"script" not in base64.b64decode(uri.partition(",")[2])
    assert np.array_equal(np.asarray(opened(uri).convert("L")), np.asarray(Image.open(io.BytesIO(payload))))


def test_a_large_image_becomes_small_and_keeps_its_colours() -> None:
    """A page of a hundred photographs has to be quick."""
    photograph = Image.new("RGB", (800, 400), (200, 30, 30))
    shown = opened(as_fetched(encoded(photograph, "JPEG"), longest=100))
    assert shown.size == (100, 50)
    red, green, blue = shown.convert("RGB").getpixel((50, 25))
    assert red > 180
    assert max(green, blue) < 60


def test_transparency_is_shown_over_white() -> None:
    """As the network sees it."""
    clear = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    assert opened(as_fetched(encoded(clear, "PNG"))).convert("RGB").getpixel((5, 5)) == (255, 255, 255)


def test_grey_levels_of_sixteen_bits_are_scaled() -> None:
    """They would be white otherwise."""
    deep = Image.fromarray(np.full((8, 8), 32_768, np.uint16))
    assert opened(as_fetched(encoded(deep, "PNG"))).convert("L").getpixel((4, 4)) == 128


@pytest.mark.parametrize(("name", "least"), [("one", 56), ("a-label-of-20-letters", 140)])
def test_bars_begin_after_the_longest_name(name: str, least: int) -> None:
    """A name is written to the left of its bar, and nothing is cut off."""
    chart = probability_bars({"zero": 0.25, name: 0.75}, name)
    left = [int(found) for found in re.findall(r'<rect class="track" x="(\d+)"', chart)]
    assert left[0] == left[1] >= least
    width = int(re.findall(r'viewBox="0 0 (\d+)', chart)[0])
    assert width == left[0] + 120 + 56


@pytest.mark.parametrize("payload", [b"", b"<html>", png_of(0)[:60], b"x" * (5 << 20)])
def test_what_cannot_be_decoded_says_why(payload: bytes) -> None:
    """The page shows the reason in the picture's place."""
    with pytest.raises(ItemRejected) as error:
        as_fetched(payload)
    assert error.value.detail


def test_the_networks_picture_has_dark_ink_on_white() -> None:
    """Ink is 255 inside."""
    digit = np.zeros((28, 28), np.uint8)
    digit[10, 10] = 255
    shown = np.asarray(opened(as_network_sees_it(digit)))
    assert shown[10, 10] == 0
    assert shown[0, 0] == 255


def test_the_bars_say_every_probability_to_who_does_not_see_them() -> None:
    """As the name of the image; hostile names of labels are text."""
    chart = ET.fromstring(probability_bars({"<b>one</b>": 0.75, "two": 0.25}, predicted="two"))  # noqa: S314
    assert chart.get("aria-label") == "<b>one</b> 75.0 %, two 25.0 %"
    assert chart.get("role") == "img"
    chosen = [row for row in chart if row.get("class") == "chosen"]
    assert [row[0].text for row in chosen] == ["two"]


def test_a_chart_needs_no_inline_style() -> None:
    """The content policy would drop it."""
    charts = probability_bars({"one": 1.0}, "one") + share_bar([("good", 0.5), ("bad", 0.5)], "half")
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=", charts)


def test_the_pieces_of_a_bar_follow_each_other() -> None:
    """They fill it."""
    bar = ET.fromstring(share_bar([("good", 0.25), ("warn", 0.5), ("bad", 0.25)], "figures"))  # noqa: S314
    assert [(piece.get("x"), piece.get("width")) for piece in bar] == [
        ("0.00", "25.00"),
        ("25.00", "50.00"),
        ("75.00", "25.00"),
    ]
