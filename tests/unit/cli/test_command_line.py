"""The command line: one JSON object for each file, one line for each error, and its exit codes."""

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.core import TyperGroup
from typer.testing import CliRunner

from mnist_ops.cli import app, main
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.reasons import Reason
from mnist_ops.local import sample_digits
from mnist_ops.vision.inference.classifier import Classifier
from tests.support.pipeline_in_memory import label_of, png_of

ROOT = Path(__file__).parents[3]
ROOT_COMMAND = typer.main.get_command(app)
KEYS = {"file", "label", "index", "confidence", "probabilities", "needs_review", "review_reason"}

Run = Callable[..., tuple[int, str, str]]
Predict = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the command line as a shell does; gives exit code, output and errors."""
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path / "no stack"))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mnist-ops", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capfd.readouterr()
        code = exited.value.code
        return (code if isinstance(code, int) else int(code is not None)), captured.out, captured.err

    return run


@pytest.fixture
def predict(run: Run, bundle: Path) -> Predict:
    """Runs `predict --json`; gives the exit code and the printed objects."""

    def predict(*files: object) -> tuple[int, list[dict[str, Any]]]:
        code, out, _ = run("predict", "--json", "--bundle", bundle, *files)
        return code, [json.loads(line) for line in out.splitlines()]

    return predict


@pytest.fixture(scope="module")
def sure_digit(classifier: Classifier) -> int:
    """A test digit that the session's small model classifies correctly, with the highest confidence."""
    images, labels = sample_digits.load("test")
    return int(classifier.probabilities(images[:200])[np.arange(200), labels[:200]].argmax())


def encoded(image: Image.Image, name: str = "PNG", **options: object) -> bytes:
    """Return an image file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def large(number: int) -> Image.Image:
    """Return a digit as a scanner gives it: dark on light, 112 pixels a side."""
    images, _ = sample_digits.load("test")
    return Image.fromarray(255 - images[number]).resize((112, 112), Image.Resampling.BICUBIC)


def sixteen_bit(number: int) -> bytes:
    """Return a digit of 16-bit grey."""
    return encoded(Image.fromarray(np.asarray(large(number)).astype(np.uint16) * 257))


def animated(number: int) -> bytes:
    """Return a GIF whose first frame is the digit."""
    frames = [Image.new("L", (112, 112), grey) for grey in (255, 0)]
    return encoded(large(number), "GIF", save_all=True, append_images=frames)


GOOD: dict[str, Callable[[int], bytes]] = {
    "mnist.png": png_of,
    "grey.png": lambda number: encoded(large(number)),
    "sixteen.png": sixteen_bit,
    "palette.png": lambda number: encoded(large(number).convert("P")),
    "alpha.png": lambda number: encoded(large(number).convert("RGBA")),
    "cmyk.jpg": lambda number: encoded(large(number).convert("CMYK"), "JPEG", quality=95),
    "animated.gif": animated,
    "wrong-name.txt": lambda number: encoded(large(number), "WEBP", lossless=True),
}


BAD: dict[str, tuple[bytes, Reason]] = {
    "empty.png": (b"", Reason.NOT_AN_IMAGE),
    "text.png": (b"I am no picture\n" * 50, Reason.NOT_AN_IMAGE),
    "page.jpg": (b"<!doctype html><svg onload=alert(1)>", Reason.NOT_AN_IMAGE),
    "truncated.png": (png_of(0)[:80], Reason.UNREADABLE_IMAGE),
    "corrupt.png": (png_of(0)[:60] + b"\xff" * 40 + png_of(0)[100:], Reason.UNREADABLE_IMAGE),
    "bomb.png": (encoded(Image.new("L", (8_000, 5_000))), Reason.TOO_MANY_PIXELS),
    "huge.png": (png_of(0) + b"\0" * (5 << 20), Reason.TOO_LARGE),
    "program.png": (b"\x7fELF" + b"\0" * 100, Reason.NOT_AN_IMAGE),
}


# --- predict


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_digit_in_any_usual_file_is_recognised(
    predict: Predict, sure_digit: int, tmp_path: Path, name: str
) -> None:
    """One object with label, index, confidence and probabilities; exit code 0."""
    file = tmp_path / name
    file.write_bytes(GOOD[name](sure_digit))
    code, (result,) = predict(file)
    assert code == 0
    assert set(result) == KEYS
    assert result["label"] == label_of(sure_digit)


def test_a_prediction_is_consistent(predict: Predict, tmp_path: Path) -> None:
    """The label is the argmax, and the probabilities sum to 1."""
    (tmp_path / "digit.png").write_bytes(png_of(0))
    _, (result,) = predict(tmp_path / "digit.png")
    probabilities = result["probabilities"]
    assert tuple(probabilities) == DIGITS.names
    assert abs(sum(probabilities.values()) - 1) <= 1e-6
    assert result["label"] == DIGITS.name(result["index"]) == max(probabilities, key=probabilities.get)
    assert result["confidence"] == probabilities[result["label"]]
    assert result["needs_review"] is (result["review_reason"] is not None)


def test_a_picture_without_a_digit_is_marked_for_review(
    predict: Predict, run: Run, bundle: Path, tmp_path: Path
) -> None:
    """It is classified, and the reason is printed with it; also without --json."""
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    (tmp_path / "noise.png").write_bytes(encoded(Image.fromarray(noise)))
    code, (result,) = predict(tmp_path / "noise.png")
    assert (code, result["needs_review"], result["review_reason"]) == (0, True, "not_a_digit")
    _, out, _ = run("predict", "--bundle", bundle, tmp_path / "noise.png")
    assert out.rstrip().endswith("%  not_a_digit")


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_file_gives_a_reason(predict: Predict, tmp_path: Path, name: str) -> None:
    """One of the closed list of reasons, with a detail in one line; exit code 1."""
    content, reason = BAD[name]
    (tmp_path / name).write_bytes(content)
    code, (result,) = predict(tmp_path / name)
    assert code == 1
    assert result["file"] == str(tmp_path / name)
    assert set(result) == {"file", "error"}
    assert result["error"]["reason"] == reason
    assert result["error"]["detail"]
    assert "\n" not in result["error"]["detail"]


def make_fifo(path: Path) -> None:
    """Create a named pipe that nobody writes into."""
    os.mkfifo(path)


def make_endless(path: Path) -> None:
    """Create a link to a device without an end."""
    path.symlink_to("/dev/zero")


def make_loop(path: Path) -> None:
    """Create a link to itself."""
    path.symlink_to(path)


def make_nothing(path: Path) -> None:
    """Create nothing."""
    assert not path.exists()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [Path.mkdir, make_fifo, make_endless, make_loop, make_nothing])
def test_a_path_without_a_readable_file_gives_a_reason_at_once(
    predict: Predict, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """For a directory, a pipe, a device, a link loop or a missing file, it neither hangs nor crashes."""
    make(tmp_path / "it.png")
    code, (result,) = predict(tmp_path / "it.png")
    assert (code, result["error"]["reason"]) == (1, "unreadable_file")


def test_a_huge_sparse_file_is_not_read(predict: Predict, tmp_path: Path) -> None:
    """Its size is checked before it is opened."""
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(1 << 40)
    code, (result,) = predict(tmp_path / "huge.png")
    assert (code, result["error"]["reason"]) == (1, "too_large")


def test_the_other_files_are_classified_when_one_is_bad(predict: Predict, tmp_path: Path) -> None:
    """One line for each file, in the given order; exit code 1."""
    for name, content in (("a.png", png_of(0)), ("b.png", b"text"), ("c.png", png_of(1))):
        (tmp_path / name).write_bytes(content)
    files = [tmp_path / name for name in ("a.png", "b.png", "missing.png", "c.png")]
    code, results = predict(*files)
    assert code == 1
    assert [result["file"] for result in results] == list(map(str, files))
    assert ["error" in result for result in results] == [False, True, True, False]


def test_random_bytes_never_crash_predict(predict: Predict, tmp_path: Path) -> None:
    """The files begin like pictures and continue with noise."""
    noise = random.Random(7)
    files = []
    for number in range(60):
        whole = bytearray([*GOOD.values()][number % len(GOOD)](number))
        for _ in range(1 + number % 5):
            whole[noise.randrange(len(whole))] = noise.randrange(256)
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(bytes(whole[: noise.randrange(8, len(whole) + 1)]))
    code, results = predict(*files)
    assert code == (1 if any("error" in result for result in results) else 0)
    assert len(results) == len(files)


def test_a_file_name_that_is_not_utf_8_is_printed(predict: Predict, tmp_path: Path) -> None:
    """Linux allows any bytes in a file name; JSON does not."""
    name = os.fsencode(tmp_path) + b'/\xff\xfe\n".png'
    Path(os.fsdecode(name)).write_bytes(png_of(0))
    code, (result,) = predict(os.fsdecode(name))
    assert code == 0
    assert result["file"].endswith('\ufffd\ufffd\n".png')


def test_without_json_predict_prints_a_table(
    run: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label and confidence, or reason and detail."""
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "digit.png").write_bytes(png_of(0))
    code, out, _ = run("predict", "--bundle", bundle, tmp_path / "digit.png", tmp_path / "none.png")
    header, first, second = out.splitlines()
    assert code == 1
    assert header.split() == ["file", "label", "confidence", "look", "at"]
    assert first.split()[2].endswith("%")
    assert "unreadable_file: No such file" in second


def test_in_a_new_process_predict_prints_only_json_and_imports_no_torch(bundle: Path, tmp_path: Path) -> None:
    """A script can read the output line by line, and a CPU does not wait for torch."""
    (tmp_path / "digit.png").write_bytes(png_of(0))
    (tmp_path / "text.png").write_bytes(b"text")
    program = (
        "import atexit, sys\n"
        "sys.argv[0] = 'mnist-ops'\n"
        "atexit.register(lambda: print('torch' in sys.modules, 'boto3' in sys.modules, file=sys.stderr))\n"
        "from mnist_ops.cli import main\n"
        "main()\n"
    )
    files = [str(tmp_path / "digit.png"), str(tmp_path / "text.png")]
    done = subprocess.run(
        [sys.executable, "-c", program, "predict", "--json", "--bundle", str(bundle), *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [set(result) for result in results] == [KEYS, {"file", "error"}]
    assert done.stderr.splitlines() == ["False False"]


# --- usage and errors


@pytest.mark.parametrize("command", [[], ["runs"], ["steps"], ["stack"]])
def test_without_a_command_the_help_is_printed(command: list[str]) -> None:
    """Every group lists its commands."""
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Commands" in result.output


def test_the_version_is_that_of_the_package(run: Run) -> None:
    """One line."""
    assert run("--version") == (0, f"mnist-ops {version('mnist-ops')}\n", "")


@pytest.mark.parametrize("command", ["", "runs", "runs classify", "predict", "models list", "steps train"])
def test_every_level_has_a_short_help_option(run: Run, command: str) -> None:
    """`-h` is `--help`."""
    short, long = run(*command.split(), "-h"), run(*command.split(), "--help")
    assert short == long
    assert short[0] == 0
    assert "Usage:" in short[1]


def commands(group: TyperGroup = ROOT_COMMAND, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command and group."""
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", [(), *commands()], ids=" ".join)
def test_a_printed_help_has_every_character_of_the_help_texts(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rich takes what is between brackets for a style, unless a backslash is before it.

    Without a running stack, that of `airflow` is its own too.
    """
    monkeypatch.setenv("COLUMNS", "600")
    monkeypatch.setenv("MNIST_OPS_LOCAL_DIR", str(tmp_path / "no stack"))
    command = ROOT_COMMAND
    for name in path:
        command = command.commands[name]
    printed = " ".join(CliRunner().invoke(app, [*path, "--help"]).output.replace("│", " ").split())
    texts = [command.help, *(parameter.help for parameter in command.params)]
    words = [" ".join((text or "").replace("\\[", "[").split()) for text in texts]
    assert [text for text in words if text not in printed] == []


@pytest.mark.parametrize(
    ("option", "logged"),
    [([], ["info", "warning"]), (["-q"], ["warning"]), (["-v"], ["debug", "info", "warning"])],
)
def test_the_log_is_as_long_as_the_options_ask(option: list[str], logged: list[str]) -> None:
    """On standard error; --quiet leaves warnings and errors, --verbose adds details."""
    program = (
        "import logging, sys\n"
        "from mnist_ops.cli import app, main\n"
        "def command():\n"
        "    for level in ('debug', 'info', 'warning'): getattr(logging, level)(level)\n"
        "app.command('try')(command)\n"
        f"sys.argv = ['mnist-ops', *{option!r}, 'try']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert [line.split()[-1] for line in done.stderr.splitlines()] == logged


def test_verbose_and_quiet_together_are_refused(run: Run) -> None:
    """They contradict each other."""
    code, _, err = run("-v", "-q", "runs", "list")
    assert (code, err) == (2, "error: --verbose and --quiet: give one of them\n")


def test_a_shell_can_complete_commands() -> None:
    """As the installed completion of bash asks for them."""
    asked = {
        "_MNIST_OPS_COMPLETE": "complete_bash",
        "COMP_WORDS": "mnist-ops experiments te",
        "COMP_CWORD": "2",
    }
    program = "import sys; sys.argv[0] = 'mnist-ops'; from mnist_ops.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | asked,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["tensorboard"]


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("ledgers", "`runs list`"),
        ("run", "`runs`"),
        ("run classify", "`runs`"),
        ("step", "`steps`"),
        ("sweep", "`experiments sweep`"),
        ("test", "`models test`"),
        ("release-hold", "`runs release-hold`"),
        ("tensorboard", "`experiments tensorboard`"),
        ("models lst", "`models list`"),
        ("runs ledgers", "`runs list`"),
        ("runs ledger", "`runs list`"),
        ("stack start", "`stack up`"),
        ("stack stop", "`stack down`"),
        ("start", "`stack up`"),
        ("version", "`--version`"),
        ("help", "`--help`"),
        ("models help", "`models --help`"),
    ],
)
def test_an_unknown_command_names_the_nearest_one(run: Run, typed: str, nearest: str) -> None:
    """Of the same group or of another; exit code 2."""
    code, out, err = run(*typed.split())
    assert (code, out) == (2, "")
    assert f"Did you mean {nearest}?" in " ".join(err.replace("│", " ").split())


def test_a_command_like_no_other_names_all_of_its_group(run: Run) -> None:
    """Somebody who guesses sees what there is."""
    _, _, err = run("experiments", "zzz")
    assert "There are: list, show, log, compare, sweep" in " ".join(err.replace("│", " ").split())


def test_every_step_has_a_command() -> None:
    """The whole pipeline can be run without Airflow."""
    result = CliRunner().invoke(app, ["steps", "--help"], env={"COLUMNS": "200"})
    for step in (
        *("snapshot", "fetch", "classify", "assess", "publish", "reconcile"),
        *("build-dataset", "dataset-report", "train", "evaluate", "release"),
    ):
        assert step in result.output


def test_a_misspelt_variable_is_a_warning_with_the_nearest_name(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, on standard error, and the command goes on."""
    monkeypatch.setenv("MNIST_OPS_S3_BUKET", "photos")
    code, out, err = run("config", "schema")
    assert code == 0
    assert json.loads(out)
    assert err == (
        "warning: MNIST_OPS_S3_BUKET is not a setting and has no effect: did you mean MNIST_OPS_S3_BUCKET?\n"
    )


def test_a_shell_that_completes_a_command_gets_no_warning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be mixed with what the person types."""
    monkeypatch.setenv("MNIST_OPS_S3_BUKET", "photos")
    monkeypatch.setenv("_MNIST_OPS_COMPLETE", "complete_bash")
    assert "MNIST_OPS_S3_BUKET" not in run("config", "schema")[2]


def test_a_damaged_bundle_is_one_line(run: Run, bundle: Path, tmp_path: Path) -> None:
    """Exit code 3, before any file is read."""
    for file in bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"\0")
    code, out, err = run("predict", "--json", "--bundle", tmp_path, "x.png")
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1
    assert "model.onnx" in err


def test_a_bundle_with_an_invalid_card_is_one_line(run: Run, tmp_path: Path) -> None:
    """Valid JSON that is not a card."""
    (tmp_path / "card.json").write_text('{"name": 1}', encoding="utf-8")
    code, out, err = run("predict", "--bundle", tmp_path, "x.png")
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1


def test_python_m_mnist_ops_is_the_same_command_line() -> None:
    """It works without the console script."""
    done = subprocess.run(
        [sys.executable, "-m", "mnist_ops", "--nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "No such option" in done.stderr
