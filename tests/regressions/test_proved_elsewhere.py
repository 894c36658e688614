"""The faults of Procrastinate 3.10.0 by number, each with the tests that prove it fixed.

The behaviour of 3.10.0 was observed by running the same steps on it, with PostgreSQL 18 and Python 3.11.
``docs/faults.md`` describes each fault and the design that prevents it. If an ordinary test proves the fix completely,
there is no second test.
"""

from __future__ import annotations

import ast
import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]

PROOFS: dict[int, list[str]] = {
    1: [
        "regressions/test_jobs_are_not_lost.py::test_a_loop_over_stalled_jobs_survives_a_taken_queueing_lock",
        "worker/test_retrying.py::test_a_retry_whose_queueing_lock_another_job_took_is_not_lost",
        "core/test_concurrency.py::test_a_retry_and_a_new_job_want_one_queueing_lock_at_once",
        "conformance/test_workers.py::test_a_rescued_job_gives_way_to_the_one_that_took_its_queueing_lock",
    ],
    2: [
        "regressions/test_workers_stay_alive.py::test_two_fetches_of_one_lock_at_once_harm_no_worker",
        "core/test_concurrency.py::test_a_promotion_that_has_not_seen_the_one_before_gives_no_lock_twice",
        "core/test_concurrency.py::test_workers_at_once_run_each_job_once_and_one_of_a_lock_at_a_time",
    ],
    3: [
        "worker/test_waking.py::test_a_scheduled_job_does_not_hold_up_those_with_the_same_lock",
        "conformance/test_fetch.py::test_a_scheduled_job_does_not_hold_its_lock_before_its_time",
    ],
    4: [
        "worker/test_stopping.py::test_while_it_drains_it_gives_signs_of_life_and_its_jobs_are_not_taken",
        "worker/test_stopping.py::test_while_it_drains_jobs_can_be_aborted",
    ],
    5: ["regressions/test_workers_stay_alive.py::test_a_heart_that_stumbled_beats_on"],
    6: [
        "regressions/test_silent_server.py::test_a_worker_stops_though_the_server_is_silent",
        "regressions/test_silent_server.py::test_a_worker_goes_on_when_the_server_can_be_reached_again",
        "regressions/test_silent_server.py::test_a_cancelled_operation_ends_soon",
        "regressions/test_silent_server.py::test_a_first_operation_that_is_cancelled_ends_soon",
        "regressions/test_silent_server.py::test_a_server_that_falls_silent_once_the_connection_is_made_is_noticed",
        "regressions/test_silent_server.py::test_a_pooled_connection_that_is_silent_is_noticed_at_begin",
        "regressions/test_silent_server.py::test_the_listening_connection_notices_at_its_first_statement",
        "regressions/test_silent_server.py::test_a_thread_does_not_wait_without_a_limit",
        "regressions/test_silent_server.py::test_an_operation_that_is_cancelled_twice_leaves_nothing_running",
        "standalone/test_notifications.py::test_cancelling_does_not_wait_for_a_server_that_is_gone",
        "worker/test_stopping.py::test_a_worker_may_be_stopped_while_it_starts",
        "worker/test_stopping.py::test_cancelling_it_twice_does_not_wait_and_the_job_is_left_to_the_others",
    ],
    7: [
        "worker/test_database_loss.py::test_what_was_deferred_while_it_was_deaf_starts_when_it_hears_again",
        "standalone/test_notifications.py::test_a_server_that_is_gone_without_a_word_is_noticed",
    ],
    8: [
        "regressions/test_workers_stay_alive.py::test_a_fetch_that_fails_is_tried_again",
        "worker/test_database_loss.py::test_jobs_that_end_while_the_database_is_away_are_recorded_when_it_is_back",
        "worker/test_database_loss.py::test_an_outcome_is_recorded_again_after_a_passing_error",
        "worker/test_database_loss.py::test_an_outcome_that_is_refused_holds_up_no_other_and_is_tried_again",
        "worker/test_database_loss.py::test_jobs_whose_fetch_was_never_answered_run_all_the_same",
    ],
    9: [
        "worker/test_stalled.py::test_the_late_outcome_of_a_rescued_job_is_refused",
        "conformance/test_record.py::test_the_outcome_of_another_workers_job_is_refused",
        "conformance/test_record.py::test_the_outcome_of_an_earlier_attempt_is_refused",
    ],
    10: ["worker/test_stalled.py::test_a_worker_that_was_pruned_as_dead_registers_again"],
    11: ["worker/test_stalled.py::test_a_task_that_blocks_the_event_loop_does_not_make_its_worker_look_dead"],
    12: [
        "worker/test_stalled.py::test_a_job_whose_worker_is_gone_is_run_by_another",
        "worker/test_processes.py::test_a_process_that_is_killed_leaves_its_job_to_another",
    ],
    13: [
        "regressions/test_periodic_ticks.py::test_ticks_go_on_after_a_restart_though_their_jobs_are_gone",
        "regressions/test_periodic_ticks.py::test_all_of_many_periodic_tasks_are_deferred",
        "worker/test_periodic.py::test_a_tick_is_not_deferred_again_after_a_restart_even_when_its_job_is_gone",
    ],
    14: [
        "regressions/test_jobs_are_not_lost.py::test_no_wait_before_a_retry_overflows",
        "worker/test_retrying.py::test_a_wait_that_overflows_waits_to_the_end_of_time",
    ],
    15: [
        "worker/test_aborting.py::test_a_job_that_is_aborted_is_not_tried_again",
        "worker/test_aborting.py::test_one_that_failed_though_it_was_aborted_can_be_sent_back_by_hand",
    ],
    16: ["regressions/test_work_of_the_database.py::test_a_worker_signs_off_without_a_look_at_the_jobs"],
    17: [
        "regressions/test_work_of_the_database.py::test_jobs_that_wait_for_a_lock_cost_a_fetch_nothing",
        "core/test_query_plans.py::test_a_fetch_from_all_queues",
        "core/test_query_plans.py::test_a_fetch_from_several_queues",
    ],
    18: [
        "core/test_query_plans.py::test_deleting_finished_jobs",
        "conformance/test_retention.py::test_deletion_is_bounded",
    ],
    19: [
        "regressions/test_work_of_the_database.py::test_many_jobs_share_fetches_and_records",
        "core/test_triggers.py::test_a_statement_notifies_each_queue_once",
    ],
    20: [
        "worker/test_waking.py::test_a_scheduled_job_starts_when_it_is_due_and_not_before",
        "worker/test_waking.py::test_the_next_job_of_a_lock_starts_when_another_worker_frees_it",
        "worker/test_retrying.py::test_a_retry_waits_and_starts_without_a_poll",
        "worker/test_aborting.py::test_only_the_job_that_is_meant_stops",
    ],
    21: ["cli/test_arguments.py::test_the_environment_counts_as_the_command_line_does"],
    22: [
        "regressions/test_smaller.py::test_a_queueing_lock_is_named_in_full",
        "django/test_connector.py::test_already_enqueued_leaves_the_transaction_usable",
        "standalone/test_user_connection.py::test_a_taken_queueing_lock_leaves_the_transaction_usable",
        "standalone/test_user_connection.py::test_a_taken_queueing_lock_leaves_the_async_transaction_usable",
    ],
    23: [
        "regressions/test_smaller.py::test_a_worker_needs_no_replaced_connector",
        "regressions/test_smaller.py::test_in_memory_locks_and_queueing_locks_are_those_of_the_database",
        "regressions/test_smaller.py::test_notifications_put_nothing_of_theirs_into_the_keys_of_a_log_record",
        "regressions/test_smaller.py::test_pruned_workers_are_logged_by_their_numbers",
        "regressions/test_smaller.py::test_an_unknown_job_is_no_result",
        "django/test_connector.py::test_jobs_are_managed_asynchronously",
        "documentation/test_pages.py::test_a_page_works_as_it_says",
    ],
}


@functools.cache
def _tests_in(path: pathlib.Path) -> set[str]:
    tree = ast.parse(path.read_text())
    functions = (node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return {function.name for function in functions}


@pytest.mark.parametrize("fault", range(1, 24))
def test_each_fault_has_its_tests(fault: int) -> None:
    assert PROOFS[fault]
    for proof in PROOFS[fault]:
        path, _, name = proof.partition("::")
        assert name.startswith("test_")
        assert name in _tests_in(ROOT / "tests" / path), proof


def test_each_regression_belongs_to_a_fault() -> None:
    listed = {proof for proofs in PROOFS.values() for proof in proofs}
    for path in pathlib.Path(__file__).parent.glob("test_*.py"):
        if path != pathlib.Path(__file__):
            tests = {f"regressions/{path.name}::{name}" for name in _tests_in(path) if name.startswith("test_")}
            assert tests <= listed


def test_the_documentation_lists_each_fault_with_a_test_of_it() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| `(\w+/\w+\.py)` \|$", (ROOT / "docs" / "faults.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 24))
    for number, path in rows:
        assert any(proof.startswith(f"{path}::") for proof in PROOFS[int(number)])
