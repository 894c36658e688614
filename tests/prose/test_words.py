"""The words of `words.toml` become fewer: no folder has more than its budget."""

from __future__ import annotations

import pathlib
import shutil

import pytest

from tests.prose import __main__ as command
from tests.prose import words

PLAIN = {"somebody": "name the actor", "so many": "give the number", "of one's own": "its own"}


def test_no_folder_has_more_words_of_the_list_than_its_budget() -> None:
    rules = words.Rules.read()
    finds = words.find_all(rules)
    above = words.above_budget(finds, rules)
    assert above == {}, [find for find in finds if find.folder in above]


def test_every_exception_still_stands_in_its_file() -> None:
    for file, text in words.Rules.read().exceptions:
        assert text in (words.ROOT / file).read_text(), (file, text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Somebody else\nwaits.", [(1, "somebody")]),
        ("def test_somebody_waits() -> None:", [(1, "somebody")]),
        ("one\n\nin so\n    # many words", [(3, "so many")]),
        ("a thread of one's own", [(1, "of one's own")]),
        ("a thread of one\N{RIGHT SINGLE QUOTATION MARK}s own", [(1, "of one's own")]),
        ("so\n\nmany", []),
        ("somebodys manysomany", []),
        ("", []),
    ],
)
def test_a_word_is_found_in_prose_in_names_and_over_a_line_break(text: str, found: list[tuple[int, str]]) -> None:
    assert list(words.find_in_text(text, PLAIN)) == found


def test_a_folder_above_its_budget_fails_and_names_each_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = words.Rules({"the": "nothing"}, dict.fromkeys(words.FOLDERS, 0), ())
    monkeypatch.setattr(words.Rules, "read", lambda: rules)
    assert command.main([]) == 1
    printed = capsys.readouterr().out
    assert "README.md:" in printed
    assert "docs: " in printed


def test_the_budget_is_lowered_and_never_raised(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "words.toml"
    shutil.copy(words.FILE, file)
    before = words.Rules.read(file)
    counted = {"docs": before.budget["docs"] + 1, "tests": 0}
    monkeypatch.setattr(words, "count", lambda finds: counted)
    words.lower_budget(file)
    assert words.Rules.read(file).budget == {"docs": before.budget["docs"], "tests": 0}
    assert words.Rules.read(file).plain == before.plain
