"""What failed is run once more, and named at the end if it passes then."""

from __future__ import annotations

import ast
import pathlib

import pytest

from tests import flaky
from tests.flaky import Failure

PROGRAM = """
import pathlib

import pytest


@pytest.mark.parametrize("place", ["a b::[c]"])
def test_that_fails_the_first_time(place):
    seen = pathlib.Path("seen")
    is_first = not seen.exists()
    seen.touch()
    assert not is_first, "not yet"


def test_that_passes():
    pass
"""
ALWAYS = """
def test_that_always_fails():
    raise ValueError("never")
"""


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A project with a flaky test, whose runs can import this one's tools."""
    monkeypatch.setenv("PYTHONPATH", str(flaky.ROOT))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_flaky.py").write_text(PROGRAM)
    return folder


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_test_that_passes_when_run_again_is_kept_by_name(
    processes: str, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert flaky.run(["-n", processes], tmp_path / "report", cwd=folder) == 0
    (failure,) = flaky._read(tmp_path / "report")
    assert failure.test == "test_flaky.py::test_that_fails_the_first_time[a b::[c]]"
    assert "AssertionError" in failure.message


def test_a_test_that_fails_twice_fails_the_run_and_is_not_called_flaky(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (folder / "test_always.py").write_text(ALWAYS)
    assert flaky.run(["-n", "0"], tmp_path / "report", cwd=folder) == 1
    assert [failure.test.partition("[")[0] for failure in flaky._read(tmp_path / "report")] == [
        "test_flaky.py::test_that_fails_the_first_time"
    ]


def test_a_run_that_cannot_be_collected_is_not_run_again(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (folder / "test_broken.py").write_text("import nothing_of_this_name")
    assert flaky.run(["-n", "0"], tmp_path / "report", cwd=folder) == pytest.ExitCode.INTERRUPTED
    assert not (tmp_path / "report").exists()
    assert not (folder / "seen").exists()


def test_the_report_gives_the_cause_of_a_listed_test_and_says_that_another_is_not_listed() -> None:
    failures = [Failure("a.py::test_a[1]", "3.13.0", "E  late"), Failure("b.py::test_b", "3.11.1", "E  early")]
    text = flaky.describe(failures, {"a.py::test_a": "It waits for time."})
    known, unknown = text.split("- ")[1:]
    assert "a.py::test_a[1] (Python 3.13.0): E  late" in known
    assert "It waits for time." in known
    assert "NOT LISTED" not in known
    assert "b.py::test_b" in unknown
    assert "NOT LISTED" in unknown


def test_the_report_of_github_is_the_one_that_is_printed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    monkeypatch.setenv(flaky.REPORT_VARIABLE, str(tmp_path / "nothing"))
    assert flaky.main(["report"]) == 0
    assert (tmp_path / "summary").read_text() == capsys.readouterr().out == "No test was flaky.\n"


def test_every_listed_test_is_there_and_has_a_cause() -> None:
    for name, cause in flaky.causes().items():
        file, _, function = name.partition("::")
        names = {getattr(node, "name", "") for node in ast.walk(ast.parse((flaky.ROOT / file).read_text()))}
        assert function in names, name
        assert len(cause.split()) > 3, name
