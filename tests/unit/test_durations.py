"""People read durations in one format."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import procrastinate
from procrastinate._durations import duration, setting

_PACKAGE = Path(procrastinate.__file__).parent
_UNIT = r" ?(ms|s|min|h|d|seconds|minutes|hours|days)\b"
_OWN_FORMAT = re.compile(
    # A number with a format of its own, or the value of a setting, and a unit. SQL writes its intervals itself.
    rf":,?\.?\d*[fg]\}}{_UNIT}|(?<!interval ')\{{[^{{}}]*(seconds|timeout|patience)\}} (s|seconds)\b"
    r"|floatformat|str\(datetime\.timedelta"
)
_OWN_FORMAT_OF_LOGS = re.compile(r"%\.\df ?s\b")
_READ_BY_PEOPLE = ("core/inspection", "core/doctor", "dashboard", "cli", "adapters/django/admin")
"""The folders that log no measured time."""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (0.0123, "12 ms"), (1.25, "1.2 s"), (5, "5 s"), (59.6, "1 min"), (61, "1 min 1 s"),
        (7500, "2 h 5 min"), (90_000, "1 d 1 h"), (86_400, "1 d"), (-3, "-3 s"),
        (float("inf"), "forever"),
    ],
)  # fmt: skip
def test_a_duration_has_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "500 ms"), (9.97, "9.97 s"), (60, "1 min"), (90, "1 min 30 s"), (3_700, "3700 s"), (90_000, "1 d 1 h"),
        (86_460, "86460 s"), (float("inf"), "inf s"), (0.013, "13 ms"), (0.0135, "0.0135 s"), (1_234_567, "1234567 s"),
    ],
)  # fmt: skip
def test_a_setting_is_not_rounded(seconds: float, text: str) -> None:
    assert setting(seconds) == text


def _files(folder: Path) -> list[Path]:
    files = [path for suffix in ("py", "html") for path in folder.rglob(f"*.{suffix}")]
    assert files
    return files


def test_no_error_reason_page_or_command_has_a_format_of_its_own() -> None:
    found = [path.relative_to(_PACKAGE).as_posix() for path in _files(_PACKAGE) if _OWN_FORMAT.search(path.read_text())]
    assert found == ["_durations.py"]


@pytest.mark.parametrize("folder", _READ_BY_PEOPLE)
def test_no_page_reason_or_command_has_the_format_of_logs(folder: str) -> None:
    assert [str(path) for path in _files(_PACKAGE / folder) if _OWN_FORMAT_OF_LOGS.search(path.read_text())] == []
