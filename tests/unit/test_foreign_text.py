"""Text that others wrote cannot forge lines, drive a terminal or fill a log."""

from __future__ import annotations

import io
from typing import Any

import pytest

from procrastinate import exceptions
from procrastinate._quoting import (
    LONGEST_LINE,
    LONGEST_TEXT,
    LONGEST_VALUE,
    Cut,
    described,
    in_brief,
    indented,
    quoted,
    quoted_lines,
)
from procrastinate._text.terminal import say, say_lines, table
from procrastinate.jobs import Job

HOSTILE = [
    "\n",
    "\r",
    "\x1b[2K",
    "\x07",
    "\x7f",
    "\x9b",
    "\x85",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u200b",
    "\u2066",
    "\ufeff",
    "\x00",
    "\x9f",
    "\u00ad",
    "\u061c",
    "\u200d",
    "\u2069",
    "\ue000",
    "\ud800",
    "\U000e0041",
    "\u034f",
    "\u115f",
    "\u2800",
    "\u3164",
    "\ufe0f",
    "\uffa0",
    "\U000e0100",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_character_that_does_not_print_is_quoted(text: str) -> None:
    assert quoted(f"a{text}b").isprintable()
    assert text not in quoted(f"a{text}b")
    assert quoted(f"a{text}b") == f"a{text}b".encode("unicode_escape").decode()


def test_a_text_that_prints_stays_as_it_is() -> None:
    assert quoted("Grüße, 日本 'a\\b'") == "Grüße, 日本 'a\\b'"


def test_only_a_newline_ends_a_line_of_a_longer_text() -> None:
    assert quoted_lines("a\nb\rc\u2028d") == "a\nb\\rc\\u2028d"


@pytest.mark.parametrize("text", HOSTILE)
def test_the_call_of_a_job_is_one_line_that_prints(text: str) -> None:
    job = Job(
        id=1,
        queue="q",
        lock=None,
        queueing_lock=None,
        task_name=f"task{text}",
        task_kwargs={f"key{text}": f"value{text}"},
    )
    assert job.call_string.isprintable()
    assert job.evolve(log_arguments=False).call_string.isprintable()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_of_a_table_stays_in_its_row(text: str) -> None:
    assert table(["NAME"], [[f"a{text}b"]]).split("\n")[1].isprintable()


def test_accents_stay_and_stacks_of_them_do_not() -> None:
    assert quoted("e\u0301 n\u0303 \u0e17\u0e35\u0e48") == "e\u0301 n\u0303 \u0e17\u0e35\u0e48"
    assert quoted("e" + "\u0301" * 100).count("\u0301") == 4


def test_a_long_line_is_cut_with_a_note_of_its_length() -> None:
    line = quoted("x" * 10_000_000)
    assert len(line) < LONGEST_LINE + 50
    assert line.endswith("... (of 10,000,000 characters)")


def test_a_long_text_of_many_lines_keeps_its_beginning_and_its_end() -> None:
    text = quoted_lines("first\n" + "x\n" * 1_000_000 + "last")
    assert len(text) < LONGEST_TEXT + 100
    assert text.startswith("first\n")
    assert text.endswith("\nlast")
    assert "characters are left out" in text


def test_a_long_line_among_others_is_cut_and_the_others_stay() -> None:
    lines = quoted_lines("first\n" + "x" * 10_000_000 + "\nlast").split("\n")
    assert (len(lines), lines[0], lines[2]) == (3, "first", "last")
    assert lines[1].endswith("... (of 10,000,000 characters)")


def test_a_tab_in_a_longer_text_becomes_spaces() -> None:
    assert quoted_lines("a\n\tb") == "a\n        b"


def test_further_lines_are_indented() -> None:
    assert indented("a\nb\nc") == "a\n  b\n  c"


@pytest.mark.parametrize("value", ["x" * 10_000_000, ["x" * 10_000_000], {"k": {"x" * 10_000_000: 1}}, 10**4_000])
def test_a_large_value_is_described_in_brief(value: Any) -> None:
    assert len(described(value)) < LONGEST_VALUE + 50
    assert "characters)" in described(value)
    assert in_brief(value) == described(value)


@pytest.mark.parametrize("value", [None, True, 1.5, 7, "text", ["a", {"b": None}], {"a": 1}])
def test_a_small_value_is_its_own_brief(value: Any) -> None:
    assert in_brief(value) is value
    assert described(value) == repr(value)


def test_a_value_that_cannot_be_written_is_described_by_its_error() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert described(deep) == "<RecursionError>"
    assert in_brief(deep) == "<RecursionError>"
    while deep:  # its own end would recurse as well
        (deep,) = deep


def test_a_value_in_a_message_is_cut_when_the_message_is_written() -> None:
    assert str(Cut("a\nb", 10)) == "a\\nb"
    assert str(Cut("x" * 20, 10)) == "xxxxxxxxxx... (of 20 characters)"


def _large_job(value: str) -> Job:
    names = {"queue": value, "lock": value, "queueing_lock": value, "task_name": value}
    return Job(id=1, task_kwargs={value: value, "other": 1}, **names)


def test_a_job_with_large_texts_is_written_in_brief() -> None:
    job = _large_job("x" * 10_000_000)
    assert len(job.call_string) < 4 * LONGEST_VALUE
    assert "other=1" in job.call_string
    assert len(repr(job)) < 8 * LONGEST_VALUE
    assert len(repr(job.log_context()["task_kwargs"])) < 4 * LONGEST_VALUE


@pytest.mark.parametrize("text", HOSTILE)
def test_the_repr_of_a_job_is_one_line_that_prints(text: str) -> None:
    assert repr(_large_job(f"a{text}b")).isprintable()


@pytest.mark.parametrize("text", [text for text in HOSTILE if text != "\n"])
def test_the_message_of_an_exception_prints(text: str) -> None:
    assert text not in str(exceptions.ConnectorException(f"Key (lock)=(a{text}b) exists"))


def test_a_long_message_of_an_exception_is_cut() -> None:
    assert len(str(exceptions.TaskNotFound("x" * 10_000_000))) < LONGEST_TEXT + 100


def test_a_row_of_wide_characters_does_not_reach_the_next_line_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    row = table(["NAME", "STATUS"], [["\u65e5" * 30 + "7 forged", "todo"]]).split("\n")[1]
    assert len(row) == 20


def test_columns_line_up_behind_wide_characters() -> None:
    rows = table(["NAME", "STATUS"], [["\u65e5\u672c", "todo"], ["abcd", "done"]]).split("\n")[1:]
    assert rows == ["\u65e5\u672c  todo", "abcd  done"]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_that_is_wider_than_the_terminal_is_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = _Terminal()
    say_lines("  one two three four five\nshort", terminal)
    assert terminal.getvalue() == "  one two three four\n    five\nshort\n"


def test_a_word_that_is_wider_than_the_terminal_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = _Terminal()
    say(f"see {'x' * 30} there", terminal, colour="red")
    assert terminal.getvalue() == f"\x1b[31msee\n  {'x' * 30}\n  there\x1b[0m\n"


def test_a_long_line_in_a_pipe_stays_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    pipe = io.StringIO()
    say("word " * 20, pipe)
    assert pipe.getvalue().count("\n") == 1


def test_what_a_stream_cannot_encode_is_escaped() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    say("\u65e5\u672c \x1b[2K", stream)
    assert raw.getvalue() == b"\\u65e5\\u672c \\x1b[2K\n"


def test_a_text_is_one_line_on_a_terminal() -> None:
    stream = io.StringIO()
    say("one\ntwo", stream)
    assert stream.getvalue() == "one\\ntwo\n"
