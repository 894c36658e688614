"""Each operation that changes several rows has a way around a row that the database refuses to change."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from procrastinate import core
from procrastinate.core.operation_marks import FINDERS, finder_of

GIVEN_ROWS = {"finish_jobs", "finish_and_fetch_jobs", "retry_jobs", "release_jobs", "remove_dead_workers"}
"""The caller splits the rows: the outcome writer, or RefusedRows.in_parts."""
IN_SAVEPOINTS = {
    "resolve_arrivals", "step_bulk_operation", "admit_jobs", "hold_off", "hold_off_key_of", "sweep_workflows",
    "take_slots_back",
}  # fmt: skip
"""They change their rows with InParts, or one by one."""
ONE_ACT = {
    "defer_jobs", "defer_jobs_alike", "defer_jobs_or_none", "defer_jobs_or_skip", "defer_jobs_or_replace",
    "create_workflow", "add_to_workflow", "retry_workflow",
    "retry_left_behind", "fail_left_behind", "delete_everything", "defer_unique_job", "defer_unique_jobs",
    "define_limits",
}  # fmt: skip
"""What a person or a program asks for as a whole. The caller gets the error, and nothing is changed."""
PART_OF_ANOTHER = {
    "finish_groups", "append_arrivals", "call_workers", "without_hand_over", "briefly", "delete_finished_jobs",
    "take_open_windows", "keep_windows", "open_windows_at", "forget_starts", "decide_on_steps", "cancel_steps_alone",
}  # fmt: skip
ONLY_INSERTS = {"sweep_lines"}
"""They append to a table of this project that has no row of a user."""
OWN_STATISTICS = {
    "record_runs", "roll_up_statistics", "keep_task_list", "write_reports", "sweep_unique_keys", "sweep_limits",
}  # fmt: skip
"""A worker goes on without them."""
ONE_ROW = {
    "begin_cancel", "send_signal", "defer_job", "defer_job_or_skip", "defer_tick", "cancel_job", "finish_job_by_id",
    "retry_job_by_id", "complete_job", "register_worker", "unregister_worker", "update_heartbeat", "beat",
    "start_waiting", "stop_waiting", "pause_queue", "resume_queue", "run_job_now", "run_job_again", "delete_ended_job",
    "start_bulk_operation", "cancel_bulk_operation", "defer_unique_tick", "free_unique_key", "set_limit", "reset_limit",
    "keep_last_turn",
}  # fmt: skip
NO_ROW = {
    "read_arguments", "count_matching_jobs", "load_bulk_operations", "get_job_status", "list_jobs_to_abort",
    "has_signal", "find_taken_queueing_lock", "list_held_jobs", "list_missing_grants", "read_clock",
    "jobs_table_exists", "list_unfit_settings", "count_left_behind", "list_jobs", "count_by_queue", "count_by_task",
    "count_by_lock", "list_late_workers", "has_work", "read_unaware", "have_ended_before", "call_all_workers",
    "list_pauses", "get_pauses", "get_result", "get_progress", "read_values", "read_step_value", "get_workflow",
    "list_workflows", "find_workflow_at", "read_graph", "list_unknown_jobs", "list_stalled_jobs",
    "list_jobs_started_before",
    "list_deferred_after", "notify_nothing", "begin_restoring", "end_restoring", "hand_nothing_over",
    "hand_over_again", "wait_briefly", "check_soon", "end_when_left_alone", "begin_worker_session", "clock_difference",
    "find_unique_key", "list_limits", "list_waiting_queues", "list_workers_of_host", "read_applied",
    "read_failed_steps", "list_defined_limits", "read_job_logs", "read_job_progress", "session_of", "show_limit",
    "read_rooms", "read_room_of_all", "next_start", "seconds_to_next_window", "read_hold_offs", "read_last_turn",
    "within_capacity", "with_rooms", "read_held", "read_job_stack", "request_stack", "list_open_operations",
    "waiting_for_groups", "execute_together", "measure_lag", "reach", "list_cancelled_groups", "find_unswept",
    "has_parked_jobs",
    "has_tick", "read_all_held", "read_terms", "wait_for_admissions",
}  # fmt: skip
OTHER_WAYS = GIVEN_ROWS | IN_SAVEPOINTS | ONE_ACT | PART_OF_ANOTHER | ONLY_INSERTS | OWN_STATISTICS | ONE_ROW | NO_ROW


def operations() -> Iterator[Callable[..., Any]]:
    """Yield every operation of the core, without those that only show what is stored."""
    for module in pkgutil.iter_modules(core.__path__, "procrastinate.core."):
        for name, member in vars(importlib.import_module(module.name)).items():
            is_public = inspect.isfunction(member) and member.__module__ == module.name and not name.startswith("_")
            if is_public and next(iter(inspect.signature(member).parameters), None) == "connection":
                yield member


OPERATIONS = {operation.__name__: operation for operation in operations() if operation not in FINDERS}
CHOOSES_ROWS = {name: operation for name, operation in OPERATIONS.items() if finder_of(operation) is not None}


def test_every_operation_has_a_way_around_a_refused_row_or_needs_none() -> None:
    assert OPERATIONS.keys() - CHOOSES_ROWS.keys() == OTHER_WAYS


@pytest.mark.parametrize("name", sorted(CHOOSES_ROWS))
def test_an_operation_that_chooses_its_rows_can_take_fewer_and_pass_over_some(name: str) -> None:
    taken = set(inspect.signature(CHOOSES_ROWS[name]).parameters)
    find_first = finder_of(CHOOSES_ROWS[name])
    assert find_first is not None
    assert taken >= {"limit", "set_aside"}
    assert set(inspect.signature(find_first).parameters) <= taken
    assert "set_aside" in inspect.signature(find_first).parameters
