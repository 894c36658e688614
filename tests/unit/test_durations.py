"""People read durations in one format."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import procrastinate
from procrastinate._durations import duration, setting

_PACKAGE = Path(procrastinate.__file__).parent
_READ_BY_PEOPLE = ("core/inspection", "core/doctor", "dashboard", "cli", "adapters/django/admin")
_OWN_FORMAT = re.compile(r":\.?\d*[fg]\} ?(s|seconds)\b|%\.\df ?s\b|floatformat|str\(datetime\.timedelta")


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
        (86_460, "86460 s"), (float("inf"), "inf s"),
    ],
)  # fmt: skip
def test_a_setting_is_not_rounded(seconds: float, text: str) -> None:
    assert setting(seconds) == text


@pytest.mark.parametrize("folder", _READ_BY_PEOPLE)
def test_no_page_reason_or_command_has_a_format_of_its_own(folder: str) -> None:
    files = [path for suffix in ("py", "html") for path in (_PACKAGE / folder).rglob(f"*.{suffix}")]
    assert files
    assert [str(path) for path in files if _OWN_FORMAT.search(path.read_text(encoding="utf-8"))] == []
