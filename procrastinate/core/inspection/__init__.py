"""Loads: the operations behind the pages of the dashboard, ``app.inspect`` and the command line.

Each answers within a fraction of a second on a table of ten million rows. It reads along an index, stops after a fixed
number of rows, and says if there are more.
"""

from __future__ import annotations

from procrastinate.core.inspection.bounds import Count
from procrastinate.core.inspection.explain import explain_job
from procrastinate.core.inspection.explanation_types import CheckResult, Explanation, Reason, ReasonKind
from procrastinate.core.inspection.failures import load_failures
from procrastinate.core.inspection.figures import Figures, RunTotals, WorkerFigures, count_startable, load_figures
from procrastinate.core.inspection.job import load_job, load_job_logs, load_whole_arguments
from procrastinate.core.inspection.limit_records import (
    JobOfLimit,
    LimitKeyDetails,
    LimitKeys,
    LimitKeyState,
    Limits,
    LimitState,
)
from procrastinate.core.inspection.limits import load_limit, load_limit_key, load_limits
from procrastinate.core.inspection.listing import JobSearch, list_jobs_page
from procrastinate.core.inspection.locks import load_locks
from procrastinate.core.inspection.overview import load_overview
from procrastinate.core.inspection.periodic import load_periodic
from procrastinate.core.inspection.queues import load_queues
from procrastinate.core.inspection.records import (
    Attempt,
    Event,
    Failure,
    Failures,
    HeldKey,
    JobDetails,
    JobsPage,
    ListedJob,
    Locks,
    LockState,
    Minute,
    Neighbour,
    Overview,
    Paused,
    Queues,
    QueueState,
    Schedule,
    Schedules,
    ServerState,
    System,
    TableSize,
    TaskHour,
    Tasks,
    TaskState,
    Tick,
    Workers,
    WorkerState,
)
from procrastinate.core.inspection.server_state import load_server_state
from procrastinate.core.inspection.state_counts import count_states
from procrastinate.core.inspection.system import load_system
from procrastinate.core.inspection.tasks import load_tasks
from procrastinate.core.inspection.tick_reasons import TickExplanation, TickQuestion, explain_tick
from procrastinate.core.inspection.upkeep_figures import UpkeepFigures
from procrastinate.core.inspection.waiting_calls import WaitingCall, WaitingCalls, load_waiting_calls
from procrastinate.core.inspection.workers import load_workers
from procrastinate.core.inspection.workflow import WorkflowDetails, WorkflowsPage, load_workflow, load_workflows
from procrastinate.core.job_states import WAITING, JobState

__all__ = [
    "WAITING",
    "Attempt",
    "CheckResult",
    "Count",
    "Event",
    "Explanation",
    "Failure",
    "Failures",
    "Figures",
    "HeldKey",
    "JobDetails",
    "JobOfLimit",
    "JobSearch",
    "JobState",
    "JobsPage",
    "LimitKeyDetails",
    "LimitKeyState",
    "LimitKeys",
    "LimitState",
    "Limits",
    "ListedJob",
    "LockState",
    "Locks",
    "Minute",
    "Neighbour",
    "Overview",
    "Paused",
    "QueueState",
    "Queues",
    "Reason",
    "ReasonKind",
    "RunTotals",
    "Schedule",
    "Schedules",
    "ServerState",
    "System",
    "TableSize",
    "TaskHour",
    "TaskState",
    "Tasks",
    "Tick",
    "TickExplanation",
    "TickQuestion",
    "UpkeepFigures",
    "WaitingCall",
    "WaitingCalls",
    "WorkerFigures",
    "WorkerState",
    "Workers",
    "WorkflowDetails",
    "WorkflowsPage",
    "count_startable",
    "count_states",
    "explain_job",
    "explain_tick",
    "list_jobs_page",
    "load_failures",
    "load_figures",
    "load_job",
    "load_job_logs",
    "load_limit",
    "load_limit_key",
    "load_limits",
    "load_locks",
    "load_overview",
    "load_periodic",
    "load_queues",
    "load_server_state",
    "load_system",
    "load_tasks",
    "load_waiting_calls",
    "load_whole_arguments",
    "load_workers",
    "load_workflow",
    "load_workflows",
]
