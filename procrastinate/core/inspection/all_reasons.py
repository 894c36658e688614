"""The list of the reasons why a job does not run: for each state of a job its checks, in the order of their weight.

Each check is a function that returns a reason, or ``None``. Reasons why a periodic task has no job are in
:mod:`~procrastinate.core.inspection.tick_reasons`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from procrastinate.core.inspection import environment_reasons as environment
from procrastinate.core.inspection import limit_reasons as limit
from procrastinate.core.inspection import missing_reasons as missing
from procrastinate.core.inspection import running_reasons as running
from procrastinate.core.inspection import waiting_reasons as waiting
from procrastinate.core.inspection import workflow_reasons as workflow
from procrastinate.core.inspection.case import Case
from procrastinate.core.inspection.explanation_types import Reason

Check: TypeAlias = Callable[[Case], Reason | None]

_DATABASE = (environment.triggers_off, environment.index_missing, environment.read_only, environment.schema_behind)
_STRAIN = (environment.connections_used_up, environment.bloated)
_WORKERS = (
    environment.no_worker,
    environment.no_worker_for_queue,
    environment.fetches_fail,
    environment.workers_drain,
    environment.loop_blocked,
    environment.slots_lost,
)
_ENDED = (running.ended, running.legacy_aborting)

CHECKS: Mapping[str, tuple[Check, ...]] = {
    "missing": (
        missing.never_given_out,
        missing.uncommitted,
        missing.prepared_transaction,
        missing.unknown_status,
        missing.rolled_back_or_deleted,
    ),
    "broken": (waiting.broken_readiness,),
    "step": (
        waiting.row_locked,
        workflow.workflow_cancelled,
        workflow.workflow_held,
        workflow.waits_for_signal,
        workflow.waits_for_steps,
        *_DATABASE,
        environment.no_worker,
        environment.fetches_fail,
        waiting.promoter_hangs,
        environment.task_unknown,
        workflow.not_looked_at,
    ),
    "future": (
        waiting.queue_paused,
        workflow.workflow_cancelled,
        workflow.waits_for_signal,
        workflow.waits_for_delay,
        waiting.never_due,
        waiting.clock_differs,
        environment.returned_for_its_task,
        waiting.retry_scheduled,
        waiting.scheduled,
        environment.task_unknown,
        waiting.zone_suspected,
    ),
    "due": (
        waiting.row_locked,
        workflow.workflow_cancelled,
        waiting.queue_paused,
        *_DATABASE,
        environment.no_worker,
        environment.fetches_fail,
        environment.loop_blocked,
        environment.all_full,
        waiting.promoter_hangs,
        waiting.holder_locked,
        environment.task_unknown,
        waiting.promotion_backlog,
        *_STRAIN,
    ),
    "parked": (
        waiting.row_locked,
        waiting.queue_paused,
        *_DATABASE,
        waiting.holder_locked,
        waiting.holder_stalled,
        waiting.holder_waits,
        waiting.lock_held,
        waiting.overtaken,
        environment.no_worker,
        environment.no_worker_for_queue,
        environment.task_unknown,
        waiting.lock_orphaned,
        waiting.resumed,
    ),
    "in line": (
        waiting.row_locked,
        waiting.queue_paused,
        *_DATABASE,
        limit.limit_undefined,
        *limit.WAITS_FOR,
        limit.limit_has_room,
        environment.no_worker,
        environment.no_worker_for_queue,
        environment.fetches_fail,
        environment.task_unknown,
        waiting.promoter_hangs,
        *_STRAIN,
    ),
    "ready": (
        waiting.row_locked,
        workflow.workflow_cancelled,
        waiting.queue_paused,
        *_DATABASE,
        *_WORKERS,
        environment.task_unknown,
        environment.workers_full,
        waiting.line_in_front,
        waiting.overtaken,
        environment.not_listening,
        *_STRAIN,
    ),
    "doing": (
        running.left_behind,
        running.worker_gone,
        running.worker_silent,
        running.row_locked,
        running.outcome_unwritten,
        running.abort_requested,
        running.loop_blocked,
        running.fetched_ahead,
        running.unknown_to_worker,
        running.runs,
    ),
    "ended": _ENDED,
    "legacy": _ENDED,
}
"""The checks for each state of a job. :attr:`Case.state` gives the states, and "missing" is a job without a row."""
