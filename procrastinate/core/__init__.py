"""The queue in SQLAlchemy Core: tables and the operations on them.

An operation is a plain function with a :class:`sqlalchemy.Connection` as first argument. It neither begins nor commits.
It knows no framework and no asyncio, and it uses only the database's clock. Connectors (:mod:`procrastinate.connector`)
supply the connection and run the operation.

A module of this package builds its statements when it is imported. So the first use of ``core.NAME`` imports the module
of that name, and a process loads only the statements that it runs.
"""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

from procrastinate.core._homes import HOMES

if TYPE_CHECKING:
    from procrastinate.core.admit import Admission, admit_jobs
    from procrastinate.core.arguments import UNREADABLE, read_arguments
    from procrastinate.core.cancel import cancel_job, get_job_status, list_jobs_to_abort
    from procrastinate.core.cancelled_groups import list_cancelled_groups
    from procrastinate.core.change_workflows import (
        abort_steps,
        begin_cancel,
        cancel_steps,
        has_signal,
        retry_workflow,
        send_signal,
    )
    from procrastinate.core.conflicts import key_is_held, lock_is_taken, tries_to_defer, tries_to_defer_unique
    from procrastinate.core.create_workflows import add_to_workflow, create_workflow
    from procrastinate.core.dead_workers import list_late_workers, prune_stalled_workers, remove_dead_workers
    from procrastinate.core.decide_steps import resolve_arrivals
    from procrastinate.core.defer import (
        defer_job,
        defer_job_or_skip,
        defer_jobs,
        defer_jobs_alike,
        defer_jobs_or_none,
        defer_jobs_or_replace,
        defer_jobs_or_skip,
        find_taken_queueing_lock,
    )
    from procrastinate.core.delete_workflows import delete_old_workflows
    from procrastinate.core.enums import EventType, Readiness, ReportKind, Status
    from procrastinate.core.failed_steps import FailedStep, read_failed_steps
    from procrastinate.core.fetch import fetch_jobs
    from procrastinate.core.finish import finish_job_by_id, finish_jobs, list_held_jobs, retry_job_by_id, retry_jobs
    from procrastinate.core.finish_and_fetch import FinishedAndFetched, can_finish_and_fetch, finish_and_fetch_jobs
    from procrastinate.core.finish_in_transaction import complete_job
    from procrastinate.core.health import jobs_table_exists, list_unfit_settings, read_clock
    from procrastinate.core.heartbeats import (
        HeartbeatAnswer,
        beat,
        register_worker,
        unregister_worker,
        update_heartbeat,
    )
    from procrastinate.core.held_keys import KeySweep, find_unique_key, free_unique_key, sweep_unique_keys
    from procrastinate.core.hold_offs import hold_off, hold_off_key_of
    from procrastinate.core.job_logs import read_job_logs
    from procrastinate.core.job_reports import NewReport, read_job_progress, write_reports
    from procrastinate.core.job_stacks import read_job_stack, request_stack
    from procrastinate.core.left_behind import count_left_behind, fail_left_behind, retry_left_behind
    from procrastinate.core.limit_sweep import LimitSweep, sweep_limits
    from procrastinate.core.limits import (
        LimitDefinition,
        LimitKey,
        StoredLimit,
        define_limits,
        list_defined_limits,
        list_limits,
        reset_limit,
        set_limit,
        show_limit,
    )
    from procrastinate.core.line_sweep import LineSweep, sweep_lines
    from procrastinate.core.listing import JobFilter, count_by_lock, count_by_queue, count_by_task, list_jobs
    from procrastinate.core.lock_timeouts import briefly
    from procrastinate.core.look import Unswept, find_unswept, has_parked_jobs, has_work, list_waiting_queues
    from procrastinate.core.lost_steps import WorkflowSweep, sweep_workflows
    from procrastinate.core.missing_rights import list_missing_grants
    from procrastinate.core.notify_interest import (
        call_all_workers,
        have_ended_before,
        read_unaware,
        start_waiting,
        stop_waiting,
    )
    from procrastinate.core.open_operations import list_open_operations
    from procrastinate.core.operation_marks import atomic, is_atomic
    from procrastinate.core.pauses import (
        Pauses,
        free_locks_of_paused,
        get_pauses,
        list_pauses,
        pause_queue,
        resume_queue,
    )
    from procrastinate.core.promote import promote_jobs
    from procrastinate.core.rates import RateTerms
    from procrastinate.core.read_results import get_progress, get_result
    from procrastinate.core.read_workflows import get_workflow, list_workflows, read_graph
    from procrastinate.core.refusals import without_hand_over
    from procrastinate.core.release import list_unknown_jobs, release_jobs
    from procrastinate.core.rescue import (
        list_jobs_started_before,
        list_stalled_jobs,
        rescue_jobs,
        return_unknown_jobs,
    )
    from procrastinate.core.retention import (
        Deletion,
        DeletionPlace,
        delete_everything,
        delete_finished_jobs,
        delete_finished_part,
    )
    from procrastinate.core.reused_ids import list_deferred_after
    from procrastinate.core.rows import (
        FetchedJob,
        FinishedJob,
        JobCounts,
        JobError,
        JobProgress,
        JobRetry,
        JobStack,
        KeptLog,
        LateWorker,
        LogLine,
        NewError,
        NewJob,
        Pause,
        Progress,
        Promotion,
        Rank,
        RescuedJob,
        StackRequest,
        StoredEvent,
        StoredJob,
        StoredResult,
        Waiting,
        WorkerTerms,
    )
    from procrastinate.core.served_queues import take_unserved_slots
    from procrastinate.core.share import LimitTerms
    from procrastinate.core.statistics import Durations, Runs, keep_task_list, record_runs, roll_up_statistics
    from procrastinate.core.sweep_parked import Sweep, sweep_parked_jobs, unpark_resumed_jobs
    from procrastinate.core.tables import metadata
    from procrastinate.core.ticks import TickOutcome, defer_tick, defer_unique_tick, has_tick
    from procrastinate.core.unique import defer_unique_job, defer_unique_jobs
    from procrastinate.core.unique_keys import TakenKey, UniqueDefer, UniqueJob, UniqueKey
    from procrastinate.core.values_of_steps import StepValue, read_step_value, read_values
    from procrastinate.core.worker_reports import WorkerIdentity, WorkerReport
    from procrastinate.core.workflow_rows import (
        Counts,
        GroupKind,
        NewDependency,
        NewGraph,
        NewGroup,
        NewStep,
        Resolution,
        Rule,
        StoredDependency,
        StoredGraph,
        StoredGroup,
        StoredStep,
        StoredWorkflow,
        WorkflowState,
    )

__all__ = [
    "UNREADABLE",
    "Admission",
    "Counts",
    "Deletion",
    "DeletionPlace",
    "Durations",
    "EventType",
    "FailedStep",
    "FetchedJob",
    "FinishedAndFetched",
    "FinishedJob",
    "GroupKind",
    "HeartbeatAnswer",
    "JobCounts",
    "JobError",
    "JobFilter",
    "JobProgress",
    "JobRetry",
    "JobStack",
    "KeptLog",
    "KeySweep",
    "LateWorker",
    "LimitDefinition",
    "LimitKey",
    "LimitSweep",
    "LimitTerms",
    "LineSweep",
    "LogLine",
    "NewDependency",
    "NewError",
    "NewGraph",
    "NewGroup",
    "NewJob",
    "NewReport",
    "NewStep",
    "Pause",
    "Pauses",
    "Progress",
    "Promotion",
    "Rank",
    "RateTerms",
    "Readiness",
    "ReportKind",
    "RescuedJob",
    "Resolution",
    "Rule",
    "Runs",
    "StackRequest",
    "Status",
    "StepValue",
    "StoredDependency",
    "StoredEvent",
    "StoredGraph",
    "StoredGroup",
    "StoredJob",
    "StoredLimit",
    "StoredResult",
    "StoredStep",
    "StoredWorkflow",
    "Sweep",
    "TakenKey",
    "TickOutcome",
    "UniqueDefer",
    "UniqueJob",
    "UniqueKey",
    "Unswept",
    "Waiting",
    "WorkerIdentity",
    "WorkerReport",
    "WorkerTerms",
    "WorkflowState",
    "WorkflowSweep",
    "abort_steps",
    "add_to_workflow",
    "admit_jobs",
    "atomic",
    "beat",
    "begin_cancel",
    "briefly",
    "call_all_workers",
    "can_finish_and_fetch",
    "cancel_job",
    "cancel_steps",
    "complete_job",
    "count_by_lock",
    "count_by_queue",
    "count_by_task",
    "count_left_behind",
    "create_workflow",
    "defer_job",
    "defer_job_or_skip",
    "defer_jobs",
    "defer_jobs_alike",
    "defer_jobs_or_none",
    "defer_jobs_or_replace",
    "defer_jobs_or_skip",
    "defer_tick",
    "defer_unique_job",
    "defer_unique_jobs",
    "defer_unique_tick",
    "define_limits",
    "delete_everything",
    "delete_finished_jobs",
    "delete_finished_part",
    "delete_old_workflows",
    "fail_left_behind",
    "fetch_jobs",
    "find_taken_queueing_lock",
    "find_unique_key",
    "find_unswept",
    "finish_and_fetch_jobs",
    "finish_job_by_id",
    "finish_jobs",
    "free_locks_of_paused",
    "free_unique_key",
    "get_job_status",
    "get_pauses",
    "get_progress",
    "get_result",
    "get_workflow",
    "has_parked_jobs",
    "has_signal",
    "has_tick",
    "has_work",
    "have_ended_before",
    "hold_off",
    "hold_off_key_of",
    "is_atomic",
    "jobs_table_exists",
    "keep_task_list",
    "key_is_held",
    "list_cancelled_groups",
    "list_deferred_after",
    "list_defined_limits",
    "list_held_jobs",
    "list_jobs",
    "list_jobs_started_before",
    "list_jobs_to_abort",
    "list_late_workers",
    "list_limits",
    "list_missing_grants",
    "list_open_operations",
    "list_pauses",
    "list_stalled_jobs",
    "list_unfit_settings",
    "list_unknown_jobs",
    "list_waiting_queues",
    "list_workflows",
    "lock_is_taken",
    "metadata",
    "pause_queue",
    "promote_jobs",
    "prune_stalled_workers",
    "read_arguments",
    "read_clock",
    "read_failed_steps",
    "read_graph",
    "read_job_logs",
    "read_job_progress",
    "read_job_stack",
    "read_step_value",
    "read_unaware",
    "read_values",
    "record_runs",
    "register_worker",
    "release_jobs",
    "remove_dead_workers",
    "request_stack",
    "rescue_jobs",
    "reset_limit",
    "resolve_arrivals",
    "resume_queue",
    "retry_job_by_id",
    "retry_jobs",
    "retry_left_behind",
    "retry_workflow",
    "return_unknown_jobs",
    "roll_up_statistics",
    "send_signal",
    "set_limit",
    "show_limit",
    "start_waiting",
    "stop_waiting",
    "sweep_limits",
    "sweep_lines",
    "sweep_parked_jobs",
    "sweep_unique_keys",
    "sweep_workflows",
    "take_unserved_slots",
    "tries_to_defer",
    "tries_to_defer_unique",
    "unpark_resumed_jobs",
    "unregister_worker",
    "update_heartbeat",
    "without_hand_over",
    "write_reports",
]


_NO_IMPORTERS = {"procrastinate-long-wait", "alarms of procrastinate"}
"""Names of threads of this package that import nothing."""


def _has_other_threads() -> bool:
    others = (thread for thread in threading.enumerate() if thread is not threading.current_thread())
    return any(thread.name not in _NO_IMPORTERS for thread in others)


if not TYPE_CHECKING:  # a type checker would take any name for an attribute

    def __getattr__(name: str) -> Any:
        """Import the module that defines the name, and keep what it defines."""
        if name not in HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if _has_other_threads():
            # One may import the ORM just now, because it starts a worker. Until that is done, no statement with a plain
            # value can be made: SQLAlchemy asks modules that are not complete yet.
            importlib.import_module("sqlalchemy.orm")
        globals()[name] = value = getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *HOMES})
