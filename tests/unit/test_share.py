"""A second Python runs all that depends on the interpreter, and in some turns all the rest."""

from __future__ import annotations

from tests import matrix, share

FILE = "conformance/test_fetch.py"
CASES = [f"{FILE}[kind {number}]" for number in range(300)]


def chosen(turn: int) -> set[str]:
    """The cases of SQL of a turn."""
    return {case for case in CASES if share.is_chosen(FILE, case, turn)}


def test_every_case_of_sql_is_run_once_in_as_many_turns_as_there_are_shares() -> None:
    turns = [chosen(turn) for turn in range(8)]
    assert sum(map(len, turns)) == len(CASES)
    assert set().union(*turns) == set(CASES)
    assert min(map(len, turns)) > len(CASES) / 16
    assert chosen(8) == turns[0]


def test_what_depends_on_the_interpreter_is_run_in_every_turn() -> None:
    for folder in ("worker", "django", "adapters", "faults", "standalone", "unit"):
        assert all(share.is_chosen(f"{folder}/test_results.py", "a case", turn) for turn in range(8))


def test_half_of_the_tests_that_start_programs_are_run_in_a_turn() -> None:
    for file in ("django/test_app.py", "cli/test_command.py"):
        turns = [{case for case in CASES if share.is_chosen(file, case, turn)} for turn in range(2)]
        assert turns[0] | turns[1] == set(CASES)
        assert not turns[0] & turns[1]


def test_an_eighth_of_the_tests_with_other_releases_and_brokers_is_run_in_a_turn() -> None:
    turns = [{case for case in CASES if share.is_chosen("moving/test_adoption.py", case, turn)} for turn in range(8)]
    assert sum(map(len, turns)) == len(CASES)
    assert set().union(*turns) == set(CASES)


def test_pages_and_tools_are_left_to_the_first_python() -> None:
    assert not any(share.is_chosen("documentation/test_pages.py", "a case", turn) for turn in range(8))


def test_every_file_and_folder_that_is_named_is_there() -> None:
    for folder in (*share.SHARES, *share.ELSEWHERE):
        assert (share.TESTS / folder).exists()


def test_the_matrix_runs_all_of_which_ci_runs_a_share() -> None:
    assert matrix.SQL == share.SQL
