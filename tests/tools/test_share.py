"""Commits in a row run every test on the first Python of CI, and what depends on the interpreter on both."""

from __future__ import annotations

import pytest

from tests import matrix, share

CASES = [f"case {number}" for number in range(1000)]


def chosen(python: str, file: str, turn: int) -> set[str]:
    """The cases of a file in a turn."""
    return {case for case in CASES if share.is_chosen(python, file, case, turn)}


@pytest.mark.parametrize("folder", share.SHARES)
def test_the_first_python_runs_every_case_once_in_as_many_turns_as_there_are_shares(folder: str) -> None:
    count = share.SHARES[folder].first
    turns = [chosen("first", f"{folder}/test_file.py", turn) for turn in range(count)]
    assert sum(map(len, turns)) == len(CASES)
    assert set().union(*turns) == set(CASES)
    assert min(map(len, turns)) > len(CASES) / count / 2


@pytest.mark.parametrize("folder", [name for name, of in share.SHARES.items() if of.first > 1 and of.second])
def test_the_second_python_runs_other_cases_than_the_first(folder: str) -> None:
    file = f"{folder}/test_file.py"
    for turn in range(24):
        assert chosen("second", file, turn)
        assert not chosen("first", file, turn) & chosen("second", file, turn)


def test_a_file_that_is_run_each_time_is_run_whole_by_the_first_python() -> None:
    for file in share.EACH_TIME:
        assert chosen("first", file, 0) == set(CASES)


def test_tables_of_3x_are_adopted_each_time() -> None:
    file, _, name = share.ADOPTION.partition("::")
    assert f"def {name}(" in (share.TESTS / file).read_text()
    assert all(share.is_chosen("first", file, f"tests/{share.ADOPTION}", turn) for turn in range(8))


def test_the_connections_of_most_users_are_run_each_time() -> None:
    file = "conformance/test_fetch.py"
    for kind in share.ALWAYS:
        assert all(share.is_chosen("first", file, f"{file}[{kind}]", turn) for turn in range(8))


@pytest.mark.parametrize("folder", ["unit", "adapters", "metrics"])
def test_what_is_cheap_and_depends_on_the_interpreter_is_run_whole_on_both(folder: str) -> None:
    for python in ("first", "second"):
        assert chosen(python, f"{folder}/test_file.py", 5) == set(CASES)


def test_pages_and_tools_are_left_to_the_first_python() -> None:
    for folder in (*share.PAGES, *share.TOOLS, *share.TEXTS):
        assert not chosen("second", f"{folder}/test_pages.py", 3)


def test_a_python_without_a_share_is_refused() -> None:
    with pytest.raises(ValueError, match="PROCRASTINATE_TESTS_SHARED is '1': say first or second"):
        share.is_chosen("1", "unit/test_share.py", "a case", 0)


def test_every_file_and_folder_that_is_named_is_there() -> None:
    for name in (*share.SHARES, *share.EACH_TIME):
        assert (share.TESTS / name).exists()


def test_the_kinds_of_connection_that_are_named_are_there() -> None:
    from tests.conformance.kinds import KINDS

    assert set(share.ALWAYS) <= {kind.name for kind in KINDS}


def test_the_matrix_runs_all_of_which_the_second_python_runs_a_share() -> None:
    assert matrix.SQL == share.SQL
