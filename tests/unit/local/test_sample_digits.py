"""The sample of MNIST that comes with the project."""

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_ops.domain.errors import Damaged, ObjectMissing, Permanent
from mnist_ops.local.sample_digits import SAMPLE, load, png, read_idx
from mnist_ops.vision.preprocessing.decode import decode

IDX = b"\0\0\x08\x03" + b"\0\0\0\x02" + b"\0\0\0\x1c" * 2 + bytes(range(256)) * 6 + b"\1" * 32


@pytest.mark.parametrize(("split", "count"), [("train", 10_000), ("test", 2_000)])
def test_the_sample_holds_all_ten_digits(split: str, count: int) -> None:
    """In about equal numbers."""
    images, labels = load(split)
    assert images.dtype == labels.dtype == np.uint8
    assert images.shape == (count, 28, 28)
    assert labels.shape == (count,)
    assert np.bincount(labels, minlength=10).min() > 0.08 * count


def test_the_sample_is_the_beginning_of_mnist() -> None:
    """Its pixels are the published ones."""
    digest = hashlib.sha256(b"".join(load(split)[0].tobytes() for split in ("train", "test"))).hexdigest()
    assert digest == "54ed7994940da86ce84ba063eb743d818c7f1202c7f1e61eeb03bf1bce93a276"
    assert load("train")[1][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


def test_the_sample_is_small_and_names_its_source() -> None:
    """At most 3 MB, with the licence beside it."""
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 3_000_000
    assert "CC BY-SA 3.0" in (SAMPLE / "SOURCE.md").read_text()


def test_a_png_gives_the_digit_back() -> None:
    """What the demo's image server sends is what is decoded."""
    for image in load("test")[0][:50]:
        np.testing.assert_array_equal(decode(png(image)), image)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_idx_file_is_read_plain_or_packed(tmp_path: Path, ending: str) -> None:
    """MNIST is downloaded packed."""
    content = gzip.compress(IDX) if ending else IDX
    (tmp_path / f"digits{ending}").write_bytes(content)
    images = read_idx(tmp_path / "digits")
    assert images.shape == (2, 28, 28)
    assert images[0, 0, :4].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "content"),
    [("d", b""), ("d", IDX[:-1]), ("d", b"\0\0\x0d" + IDX[3:]), ("d.gz", IDX), ("d.xz", IDX)],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    """No digits are read from a part of a file."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Damaged, match=name):
        read_idx(tmp_path / "d")


def test_a_missing_file_and_an_unknown_split_are_named(tmp_path: Path) -> None:
    """The error names the missing file or the split."""
    with pytest.raises(ObjectMissing, match="train-images"):
        load("train", tmp_path)
    with pytest.raises(Permanent, match="'all'"):
        load("all")


def test_importing_the_sample_imports_no_arrays() -> None:
    """The command line imports the module in every command, and must stay quick."""
    script = "import sys, mnist_ops.local.sample_digits as s; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
