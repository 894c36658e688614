"""Text that others wrote cannot forge lines or drive a terminal."""

from __future__ import annotations

import pytest

from procrastinate.console import table
from procrastinate.foreign_text import quoted, quoted_lines
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
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_character_that_does_not_print_is_quoted(text: str) -> None:
    assert quoted(f"a{text}b").isprintable()
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
