"""Reasons of steps that wait for other steps."""

from __future__ import annotations

from collections.abc import Sequence

from procrastinate.core.inspection import workflow_facts
from procrastinate.core.inspection.case import Case
from procrastinate.core.inspection.reasons import Reason, ReasonKind
from procrastinate.core.inspection.workflow_facts import Needed
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
            f"Workflow {step.workflow_id} ({step.workflow!r}) is on hold: this step needs the success of "
            f"{_names(broken)}, which did not succeed"
        ),
        advice=f"app.workflows.retry({step.workflow_id}), or app.workflows.cancel({step.workflow_id})",
    )


def waits_for_steps(case: Case) -> Reason | None:
    """Do steps that it waits for have to end."""
    unfinished = workflow_facts.read_open(case.connection, case.job_id)
    if not unfinished:
        return None
    first = next((one.job_id for one in unfinished if one.job_id is not None), None)
    look = "" if first is None else f", or see `procrastinate why {first}`"
    step = case.step
    where = "" if step is None else f" of workflow {step.workflow_id} ({step.workflow!r})"
    return Reason(
        code="waits-for-steps",
        kind=ReasonKind.WAITS,
        text=f"The step waits for the end of {_names(unfinished)}{where}",
        advice=f"Wait{look}",
    )


def waits_for_signal(case: Case) -> Reason | None:
    """Is it a signal that has not come."""
    step = case.step
    if case.row.task_name != SIGNAL_TASK or step is None:
        return None
    return Reason(
        code="waits-for-signal",
        kind=ReasonKind.WAITS,
        text=f"Signal {step.step!r} of workflow {step.workflow_id} ({step.workflow!r}) has not come",
        advice=f"app.workflows.signal({step.workflow_id}, {step.step!r})",
    )


def not_looked_at(case: Case) -> Reason | None:
    """Has all ended that it waits for."""
    return Reason(
        code="step-due",
        kind=ReasonKind.WAITS,
        text="What the step waits for has ended. A worker lets it go when it looks at the ends of steps next",
        advice="Nothing to do if a worker is alive",
    )


def _names(needed: Sequence[Needed]) -> str:
    rest = len(needed) - _NAMED
    return ", ".join(map(str, needed[:_NAMED])) + (f" and {rest} more" if rest > 0 else "")
