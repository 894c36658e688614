"""Lines that are wider than the terminal."""

from __future__ import annotations

import io

import pytest

from procrastinate._text.terminal import table, wrapped
from procrastinate.cli.main import make_parser


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 20 columns."""
    monkeypatch.setenv("COLUMNS", "20")


def test_a_line_of_a_table_that_is_cut_ends_with_a_mark() -> None:
    """Without the mark, 123456 that is cut to 123 is another number."""
    _, *lines = table(("queue", "ready"), [["a" * 15, "123456"], ["b", "1"]]).splitlines()
    assert lines == ["a" * 15 + "  12>", "b                1"]


def test_a_wide_character_at_the_end_leaves_room_for_the_mark() -> None:
    _, line = table(("task",), [["名" * 15]]).splitlines()
    assert line == "名" * 9 + ">"


def test_a_table_that_is_too_wide_loses_columns_of_zeros_before_it_is_cut() -> None:
    """Those on the right go first, and no more of them than it takes."""
    header, rows = ("task", "todo", "doing", "failed", "idle"), [["a", "0", "0", "3", "0"], ["b", "0", "", "0", "0"]]
    first, *others = table(header, rows).splitlines()
    assert "task  todo  failed" in first
    assert others == ["a     0     3", "b     0     0"]
    assert table(header, rows, is_plain=True).splitlines()[0].split() == list(header)


def test_a_table_that_fits_keeps_its_columns_of_zeros() -> None:
    assert table(("task", "todo"), [["a", "0"]]).splitlines()[1] == "a     0"


def test_a_plain_table_is_not_cut() -> None:
    assert table(("task",), [["a" * 30]], is_plain=True).splitlines()[1] == "a" * 30


def test_the_rest_of_a_broken_line_stands_below_its_value() -> None:
    assert wrapped("  queues  mail, api, default", io.StringIO(), rest_indent=8) == (
        "  queues  mail, api,\n          default"
    )


def test_an_error_about_the_arguments_is_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        make_parser(["queues"]).parse_args(["queues", "--no\x1b[31msuch"])
    assert capsys.readouterr().err.endswith(r"error: unrecognized arguments: --no\x1b[31msuch" + "\n")
