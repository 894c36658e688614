"""Reasons of steps that wait for other steps."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

from procrastinate._durations import duration
from procrastinate.core.inspection import workflow_facts
from procrastinate.core.inspection.case import Case
from procrastinate.core.inspection.explanation_types import Reason, ReasonKind
from procrastinate.core.inspection.workflow_facts import Needed, StepFacts
from procrastinate.core.workflow_rows import SIGNAL_TASK

_NAMED = 3


def workflow_held(case: Case) -> Reason | None:
    """Did a step that it needs end without success."""
    broken = workflow_facts.read_broken(case.connection, case.job_id)
    step = case.step
    if not broken or step is None or step.if_failed != "hold":
        return None
    return Reason(
        code="workflow-held",
        kind=ReasonKind.BLOCKED,
        text=(
            f"Workflow {step.workflow_id} ({step.workflow!r}) is held: this step needs the success of "
            f"{_names(broken)}, which did not succeed"
        ),
        advice=f"app.workflows.retry({step.workflow_id}), or app.workflows.cancel({step.workflow_id})",
    )


def waits_for_steps(case: Case) -> Reason | None:
    """Do steps that it waits for have to end."""
    unfinished = workflow_facts.read_open(case.connection, case.job_id)
    if not unfinished:
        return None
    step = case.step
    if step is not None and step.callback is not None:
        return _callback(step, unfinished[0])
    if step is not None and all(one.is_signal for one in unfinished):
        return _unsent(step, unfinished)
    first = next((one.job_id for one in unfinished if one.job_id is not None), None)
    look = "" if first is None else f", or see `procrastinate why {first}`"
    where = "" if step is None else f" of workflow {step.workflow_id} ({step.workflow!r})"
    return Reason(
        code="waits-for-steps",
        kind=ReasonKind.WAITS,
        text=f"The step waits for the end of {_names(unfinished, _number(case, unfinished))}{where}",
        advice=f"Wait{look}",
    )


def _unsent(step: StepFacts, signals: Sequence[Needed]) -> Reason:
    advice = " and ".join(f"app.workflows.signal({step.workflow_id}, {one.name!r})" for one in signals[:_NAMED])
    return Reason(
        code="waits-for-steps",
        kind=ReasonKind.WAITS,
        text=f"The step waits for {_names(signals)} of workflow {step.workflow_id} ({step.workflow!r})",
        advice=advice,
    )


_RUNS_IF = {
    "on_success": "all have succeeded",
    "on_failure": "one of them did not succeed and the workflow is not cancelled",
    "on_end": "they have ended, whatever came of them",
}


def _callback(step: StepFacts, steps: Needed) -> Reason:
    return Reason(
        code="waits-for-steps",
        kind=ReasonKind.WAITS,
        text=(
            f"The callback {step.callback} of workflow {step.workflow_id} ({step.workflow!r}) waits for the end of all "
            f"steps: {steps.open_steps}. It runs if {_RUNS_IF[step.callback or 'on_end']}"
        ),
        advice=f"Wait, or see `procrastinate workflow {step.workflow_id}`",
    )


def workflow_cancelled(case: Case) -> Reason | None:
    """Was its workflow cancelled."""
    step = case.step
    if step is None or not step.is_cancelled or step.callback is not None:
        return None
    return Reason(
        code="workflow-cancelled",
        kind=ReasonKind.WAITS,
        text=(
            f"Workflow {step.workflow_id} ({step.workflow!r}) was cancelled. This step does not start. A worker ends "
            "it as cancelled when its turn comes"
        ),
        advice=f"app.workflows.cancel({step.workflow_id}) again ends it now, app.workflows.retry({step.workflow_id}) "
        "lets it run",
    )


def waits_for_delay(case: Case) -> Reason | None:
    """Does a delay after the steps before it pass. The timeout of a signal is none."""
    step, due = case.step, case.row.scheduled_at
    if step is None or step.delay is None or due is None or case.row.attempts or case.row.task_name == SIGNAL_TASK:
        return None
    return Reason(
        code="waits-for-delay",
        kind=ReasonKind.WAITS,
        text=(
            f"What the step waited for has ended. Its delay of {duration(step.delay)} passes until "
            f"{due:%Y-%m-%d %H:%M:%S} UTC"
        ),
        advice="Wait",
    )


def waits_for_signal(case: Case) -> Reason | None:
    """Is it a signal that has not come."""
    step = case.step
    if case.row.task_name != SIGNAL_TASK or step is None:
        return None
    return Reason(
        code="waits-for-signal",
        kind=ReasonKind.WAITS,
        text=(
            f"Signal {step.step!r} of workflow {step.workflow_id} ({step.workflow!r}) has not come. "
            f"{_timeout(step, case.row.scheduled_at)}"
        ),
        advice=f"app.workflows.signal({step.workflow_id}, {step.step!r})",
    )


def not_looked_at(case: Case) -> Reason | None:
    """Has all ended that it waits for. A signal waits for itself, and a held workflow lets no step go."""
    if case.row.task_name == SIGNAL_TASK or workflow_held(case) or waits_for_steps(case):
        return None
    return Reason(
        code="step-due",
        kind=ReasonKind.WAITS,
        text="What the step waits for has ended. A worker lets it go when it looks at the ends of steps next",
        advice="Wait if a worker is alive, or start one",
    )


def _timeout(step: StepFacts, due: datetime.datetime | None) -> str:
    if step.delay is None or math.isinf(step.delay):
        return "It has no timeout"
    if due is None:
        return f"Its timeout of {duration(step.delay)} begins when the steps before it have ended"
    return f"Without it the step fails after its timeout of {duration(step.delay)}, at {due:%Y-%m-%d %H:%M:%S} UTC"


def _number(case: Case, needed: Sequence[Needed]) -> int:
    """Return how many there are. A list that is full may have been cut."""
    return len(needed) if len(needed) < workflow_facts.MOST else workflow_facts.count_open(case.connection, case.job_id)


def _names(needed: Sequence[Needed], number: int | None = None) -> str:
    rest = (number or len(needed)) - _NAMED
    return ", ".join(map(str, needed[:_NAMED])) + (f" and {rest} more" if rest > 0 else "")
