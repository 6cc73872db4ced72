"""The files that pin, build and describe the project agree with each other."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mnist_ops import __version__

ROOT = Path(__file__).parents[2]
REQUIREMENT = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[\w.+!-]+)(?P<marker> ; .+)?")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}")


def read(name: str) -> str:
    """Return the text of a file, named from the root of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    """The parsed pyproject.toml."""
    return tomllib.loads(read("pyproject.toml"))


def requirements(name: str) -> dict[str, int]:
    """Return `name==version` with the count of its hashes; fail on any line of another form."""
    counts: dict[str, int] = {}
    current = ""
    for line in read(name).splitlines():
        bare = line.removesuffix(" \\")
        if HASH.fullmatch(bare):
            counts[current] += 1
        elif not line.startswith("#"):
            match = REQUIREMENT.fullmatch(bare)
            assert match is not None, line
            current = f"{match['name']}=={match['version']}"
            counts[current] = 0
    return counts


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-bootstrap.txt"])
def test_every_requirement_is_pinned_and_has_a_hash(name: str) -> None:
    """Nor is there a line of any other form: no option, no address, no path."""
    counts = requirements(name)
    assert counts
    assert all(counts.values())
    assert "://" not in read(name)


def test_the_lock_holds_every_direct_dependency(pyproject: dict[str, Any]) -> None:
    """An extra or a group that was edited without `make lock` is noticed here."""
    extras = pyproject["project"]["optional-dependencies"].values()
    groups = pyproject["dependency-groups"].values()
    lists = [pyproject["project"]["dependencies"], *extras, *groups]
    names = {re.split(r"[\[<>=!~ ;]", item)[0] for items in lists for item in items}
    assert names - {"mnist-ops"} <= {line.split("==")[0] for line in requirements("requirements.lock")}


@pytest.mark.parametrize("variable", ["EXTRAS", "GROUPS"])
def test_make_lock_resolves_every_extra_and_every_group(variable: str, pyproject: dict[str, Any]) -> None:
    """A new list of dependencies has to be named in the Makefile; the extra `all` only refers to others."""
    lists = {
        "EXTRAS": pyproject["project"]["optional-dependencies"].keys() - {"all"},
        "GROUPS": pyproject["dependency-groups"].keys(),
    }
    named = re.search(rf"^{variable} := (.+)$", read("Makefile"), re.MULTILINE)
    assert named is not None
    assert set(named[1].split()) == lists[variable]


def test_the_extra_all_refers_to_every_other_extra(pyproject: dict[str, Any]) -> None:
    """`pip install "mnist-ops[all]"` leaves nothing out."""
    extras = pyproject["project"]["optional-dependencies"]
    assert extras["all"] == [f"mnist-ops[{','.join(name for name in extras if name != 'all')}]"]


def test_the_image_is_built_on_the_airflow_that_the_lock_holds(pyproject: dict[str, Any]) -> None:
    """One version in pyproject.toml, the lock and the Dockerfile."""
    base = re.search(
        r"^FROM apache/airflow:([\d.]+)-python([\d.]+) AS base$", read("Dockerfile"), re.MULTILINE
    )
    assert base is not None
    assert f"apache-airflow=={base[1]}" in pyproject["project"]["optional-dependencies"]["airflow"]
    assert f"apache-airflow=={base[1]}" in requirements("requirements.lock")
    assert f"Programming Language :: Python :: {base[2]}" in pyproject["project"]["classifiers"]


def test_the_builder_sees_every_file_that_the_image_copies() -> None:
    """.dockerignore refuses everything that it does not name."""
    allowed = set(re.findall(r"^!(.+)$", read(".dockerignore"), re.MULTILINE))
    copied: set[str] = set()
    for arguments in re.findall(r"^(?:COPY|ADD)(?: --\S+)* (.+)$", read("Dockerfile"), re.MULTILINE):
        copied |= {source.split("/")[0] for source in arguments.split()[:-1]}
    assert copied == allowed


def test_the_version_is_the_same_in_both_places(pyproject: dict[str, Any]) -> None:
    """In pyproject.toml and in the package."""
    assert pyproject["project"]["version"] == __version__


def makefile_targets() -> set[str]:
    """Return the targets that `make help` lists."""
    return set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))


def test_make_help_lists_every_target() -> None:
    """Every phony target has a description, so it is listed."""
    phony = re.search(r"^\.PHONY: (.+)$", read("Makefile"), re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == makefile_targets()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docker-compose.yaml"])
def test_documents_name_targets_that_exist(name: str) -> None:
    """`make demo` in a document is a promise."""
    named = set(re.findall(r"(?<![\w-])make ([a-z][a-z-]*)", code_of(name)))
    assert named, f"{name} names no target: this test looks for nothing"
    assert named <= makefile_targets()


def code_of(name: str) -> str:
    """Return the code in a Markdown file, spans and blocks; of any other file, all of it."""
    text = read(name)
    if not name.endswith(".md"):
        return text
    return "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))


def relative_links(name: str) -> set[str]:
    """Return the files that a document links to, without anchors; links in code do not count."""
    prose = re.sub(r"```.*?```|`[^`\n]+`", "", read(name), flags=re.DOTALL)
    targets = re.findall(r"\]\(\s*<?([^\s<>)]+)", prose) + re.findall(
        r"^\[[^\]]+\]:\s+(\S+)", prose, re.MULTILINE
    )
    return {target.split("#")[0] for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:|#", target)}


def documents_with_links() -> list[str]:
    """Return the documents that link to files, named from the root of the repository."""
    below = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return [name for name in ("README.md", "CONTRIBUTING.md", *below) if relative_links(name)]


@pytest.mark.parametrize("name", documents_with_links())
def test_relative_links_of_documents_lead_to_files_that_exist(name: str) -> None:
    """Seen from the document's own folder."""
    folder = (ROOT / name).parent
    assert {target for target in relative_links(name) if not (folder / target).exists()} == set()


def test_ci_runs_what_the_readme_tells_people_to_run() -> None:
    """Check, tests and demo, through make alone."""
    commands = re.findall(r"^timed (.*)$", read(".ci/run"), re.MULTILINE)
    assert commands == ["make check", "make test", "make demo"]
    assert {command.removeprefix("make ") for command in commands} <= makefile_targets()
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_the_image_has_the_list_of_what_is_no_plugin() -> None:
    """Without it Airflow's plugin loader would import the cluster policies as a plugin."""
    (sources,) = re.findall(
        r"^COPY --chown=airflow:0 (.*) \$\{AIRFLOW_HOME\}/plugins/$", read("Dockerfile"), re.MULTILINE
    )
    assert "plugins/.airflowignore" in sources.split()
