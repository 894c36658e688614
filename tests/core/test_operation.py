"""How an operation says that it needs a transaction."""

from __future__ import annotations

import ast
import inspect
import pkgutil

from procrastinate import core
from procrastinate.core._homes import HOMES

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
    "briefly",
    "keep_task_list",
    "record_runs",
    "roll_up_statistics",
    "sweep_unique_keys",
    "without_hand_over",
    "set_limit",
    "defer_unique_jobs",
    "defer_unique_tick",
    "free_unique_key",
    "hold_off",
    "hold_off_key_of",
    "sweep_limits",
    "sweep_workflows",
}


def test_the_operations_that_need_a_transaction_say_so() -> None:
    operations = {name: value for name in core.__all__ if callable(value := getattr(core, name))}
    assert {name for name, value in operations.items() if core.is_atomic(value)} == NEED_A_TRANSACTION


def test_every_public_name_is_there() -> None:
    assert len(core.__all__) == len(set(core.__all__))
    assert all(hasattr(core, name) for name in core.__all__)


def test_each_public_name_comes_from_the_module_that_type_checkers_see() -> None:
    imports = [node for node in ast.walk(ast.parse(inspect.getsource(core))) if isinstance(node, ast.ImportFrom)]
    seen = {
        alias.name: str(node.module).removeprefix("procrastinate.core.")
        for node in imports
        for alias in node.names
        if str(node.module).startswith("procrastinate.core.") and node.module != "procrastinate.core._homes"
    }
    assert seen == HOMES
    assert sorted(seen) == sorted(core.__all__)


def test_a_name_that_core_lacks_is_an_attribute_error() -> None:
    assert not hasattr(core, "no_such_operation")


def test_no_public_name_is_the_name_of_a_module() -> None:
    """An import of the module would hide what the name stands for."""
    assert {module.name for module in pkgutil.iter_modules(core.__path__)} & set(core.__all__) == set()
