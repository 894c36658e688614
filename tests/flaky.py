"""``python -m tests.flaky run ...``: run pytest, and once more, alone, what failed; keep the names of what passes then.

``python -m tests.flaky report`` prints these names at the end of a run of CI, each with the cause that ``flaky.toml``
gives. A flaky test does not fail the run: tests with real processes may also miss a deadline on a machine that is
overloaded. A test that fails twice does.

Every argument after ``run`` is pytest's. What is kept stands in the file that ``PROCRASTINATE_FLAKY_REPORT`` names.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LIST = pathlib.Path(__file__).with_suffix(".toml")
REPORT_VARIABLE = "PROCRASTINATE_FLAKY_REPORT"
MOST = 20
"""If more tests fail, they are not flaky, and are not run again."""
_FAILURES_VARIABLE = "PROCRASTINATE_FAILURES"
_SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


@dataclasses.dataclass(frozen=True)
class Failure:
    """A test that has failed, the Python that ran it, and the last line of what it said."""

    test: str
    python: str
    message: str


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """As a plugin of pytest, note each failure, in the process that prints them."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        message = (report.longreprtext.strip().splitlines() or ["no message"])[-1]
        _append(
            pathlib.Path(os.environ[_FAILURES_VARIABLE]), Failure(report.nodeid, platform.python_version(), message)
        )


def run(arguments: list[str], report: pathlib.Path, cwd: pathlib.Path = ROOT) -> int:
    """Run pytest, and what failed once more; return the exit status of the last run.

    Parameters
    ----------
    arguments:
        Of the first run.
    report:
        The file to which the tests that passed the second time are added.
    cwd:
        Where pytest runs.
    """
    status, failed = _run_pytest(arguments, cwd)
    tests = sorted({failure.test for failure in failed})
    if status != pytest.ExitCode.TESTS_FAILED or not 0 < len(tests) <= MOST:
        return status
    print(f"=== Once more, alone: {', '.join(tests)}", flush=True)
    status, failed_again = _run_pytest(["-n", "0", *tests], cwd)
    if status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        twice = {failure.test for failure in failed_again}
        for failure in {failure.test: failure for failure in failed if failure.test not in twice}.values():
            _append(report, failure)
    return status


def _run_pytest(arguments: list[str], cwd: pathlib.Path) -> tuple[int, list[Failure]]:
    with tempfile.TemporaryDirectory(prefix="flaky-") as folder:
        failures = pathlib.Path(folder) / "failures"
        failures.touch()
        command = [sys.executable, "-m", "pytest", "-p", "tests.flaky", *arguments]
        variables = {**os.environ, _FAILURES_VARIABLE: str(failures)}
        return subprocess.run(command, cwd=cwd, env=variables, check=False).returncode, _read(failures)


def _append(file: pathlib.Path, failure: Failure) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as opened:
        opened.write(f"{json.dumps(dataclasses.asdict(failure))}\n")


def _read(file: pathlib.Path) -> list[Failure]:
    return [Failure(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def causes() -> dict[str, str]:
    """Return the causes of the tests that are known to be flaky, by the test without its parameters."""
    return {entry["test"]: entry["cause"] for entry in tomllib.loads(LIST.read_text()).get("flaky", [])}


def describe(failures: list[Failure], known: dict[str, str]) -> str:
    """Return the report of a run of CI."""
    if not failures:
        return "No test was flaky."
    lines = [f"{len(failures)} flaky: failed, and passed when run again, alone."]
    for failure in failures:
        cause = known.get(failure.test.partition("[")[0])
        lines += [
            f"- {failure.test} (Python {failure.python}): {failure.message}",
            f"  {cause}" if cause else f"  NOT LISTED: mend it, or list it with its cause in tests/{LIST.name}",
        ]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run one of the two commands, and return the exit status."""
    report = pathlib.Path(os.environ.get(REPORT_VARIABLE, ROOT / "artifacts" / "flaky.jsonl"))
    match arguments:
        case ["run", *others]:
            return run(others, report)
        case ["report"]:
            text = describe(_read(report), causes())
            print(text)
            if summary := os.environ.get(_SUMMARY_VARIABLE):
                with open(summary, "a") as file:
                    file.write(f"{text}\n")
            return 0
        case _:
            print(__doc__)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
