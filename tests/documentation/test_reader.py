"""The reader's complaints: blocks that are not run, unused files, and output that differs from the page."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from tests.documentation.blocks import Block, blocks_of, commands_of
from tests.documentation.reader import Reader

NewReader = Callable[[str], Reader]


def block(text: str, language: str = "console", path: str | None = None) -> Block:
    """Return a block that is on no real page."""
    return Block(page="a page", line=1, language=language, text=text, path=path)


@pytest.fixture
def reader(new_reader: NewReader) -> Reader:
    """Return a reader in an empty folder."""
    return new_reader("no page")


def test_a_block_in_an_unknown_language_is_reported(reader: Reader) -> None:
    with pytest.raises(AssertionError, match=r"a page:1 \(ruby\) is not run, and not listed"):
        reader.read(block("puts 1\n", "ruby"))


def test_an_unused_file_is_reported(reader: Reader) -> None:
    reader.read(block("a = 1\n", "python", "used.py"))
    reader.read(block("b = 1\n", "python", "forgotten.py"))
    reader.read(block("$ python -c 'import used'\n"))
    with pytest.raises(AssertionError, match=r"No block has imported, run or checked \['forgotten.py'\]"):
        reader.finish()


def test_a_python_block_that_raises(reader: Reader) -> None:
    (reader.directory / "context.py").write_text("a = 1\n")
    reader.read(block("import asyncio\n\nawait asyncio.sleep(0)\nassert a == 1\na / 0\n", "python"))
    with pytest.raises(AssertionError, match=r'File "a page", line 5[^Z]*ZeroDivisionError'):
        reader.finish()


def test_a_command_that_fails(reader: Reader) -> None:
    with pytest.raises(AssertionError, match=r"\$ false\nexits with 1"):
        reader.read(block("$ true\n$ false\n"))


def test_a_command_that_prints_something_else(reader: Reader) -> None:
    reader.read(block("$ echo one; echo two three\none\n... three\n"))
    with pytest.raises(AssertionError, match="It prints something else"):
        reader.read(block("$ echo one; echo two\ntwo\none\n"))


def test_a_worker_that_cannot_start(reader: Reader) -> None:
    with pytest.raises(AssertionError, match="has ended, and does not print"):
        reader.read(block("$ procrastinate --app=nowhere.app worker\n"))


def test_commands_go_on_where_the_one_before_has_left(reader: Reader) -> None:
    reader.read(block('$ mkdir a && cd a\n$ export B="c d"\n$ echo "$(basename "$PWD") $B"    # a comment\na c d\n'))


def test_a_block_that_does_not_end(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr("tests.documentation.blocks.ROOT", tmp_path)
    (tmp_path / "page.md").write_text("```python\na = 1\n")
    with pytest.raises(AssertionError, match=r"A block of page.md does not end"):
        blocks_of("page.md")


def test_a_console_block_that_begins_with_no_command() -> None:
    with pytest.raises(AssertionError, match="begins with no command"):
        list(commands_of(block("output\n$ true\n")))
