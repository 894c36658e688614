"""How an operation says that it needs a transaction."""

from __future__ import annotations

from procrastinate import core

NEED_A_TRANSACTION = {
    "admit_jobs",
    "define_limits",
    "delete_everything",
    "defer_jobs_or_none",
    "defer_jobs_or_skip",
    "defer_tick",
    "reset_limit",
    "retry_job_by_id",
    "add_to_workflow",
    "create_workflow",
    "resolve_arrivals",
    "retry_workflow",
    "delete_old_workflows",
    "without_hand_over",
    "set_limit",
    "defer_unique_jobs",
    "defer_unique_tick",
    "free_unique_key",
}


def test_the_operations_that_need_a_transaction_say_so() -> None:
    operations = {name: value for name in core.__all__ if callable(value := getattr(core, name))}
    assert {name for name, value in operations.items() if core.is_atomic(value)} == NEED_A_TRANSACTION


def test_every_public_name_is_there() -> None:
    assert core.__all__ == sorted(core.__all__)
    assert all(hasattr(core, name) for name in core.__all__)
