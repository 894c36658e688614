"""What is read to explain why a step of a workflow waits. Each function is one bounded query."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa

from procrastinate.core.decide_steps import is_unfinished
from procrastinate.core.enums import Status
from procrastinate.core.finish_groups import lacks_success
from procrastinate.core.job_states import WAITING_FOR_SIGNAL, label_of, word_in
from procrastinate.core.tables import DOING, TODO, dependencies, jobs, status_literal, workflows
from procrastinate.core.workflow_rows import SIGNAL_TASK, GroupKind, Rule, callback_of

MOST = 20
COUNTED = 1_000
"""Maximum number of open steps that are counted."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StepFacts:
    """The workflow of a step. ``if_failed`` is ``"cancel"`` or ``"hold"``.

    ``callback`` names the kind of a callback, such as ``"on_end"``, and is ``None`` for a step. ``delay`` is the time
    in seconds from the end of the steps before to the start. ``is_cancelled`` is true in a cancelled workflow that has
    not ended.
    """

    workflow_id: int
    workflow: str
    if_failed: str
    step: str
    is_cancelled: bool
    callback: str | None
    delay: float | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Needed:
    """A job or a group that a step waits for. A group has no job.

    ``word`` is the one word for the state of the job, and ``None`` for a group and for a job that is gone.
    ``open_members`` is the number of steps of a group that have not ended, counted up to 1,001.
    """

    job_id: int | None
    name: str
    word: str | None
    open_members: int = 0
    is_signal: bool = False

    @property
    def open_steps(self) -> str:
        """The number of steps of a group that have not ended, in words."""
        count = f"more than {COUNTED:,}" if self.open_members > COUNTED else f"{self.open_members:,}"
        return f"{count} {'step has' if self.open_members == 1 else 'steps have'} not ended"

    def __str__(self) -> str:
        if self.job_id is None:
            return f"the group {self.name!r}" + (f" ({self.open_steps})" if self.open_members else "")
        if self.word == WAITING_FOR_SIGNAL:
            return f"the signal {self.name!r} (job {self.job_id}, not sent)"
        return f"{self.name!r} (job {self.job_id}, {'gone' if self.word is None else label_of(self.word)})"


_root, _awaited = workflows.alias("root"), workflows.alias("awaited")
_OF_JOB = dependencies.c.job_id == jobs.c.id
_RULE = (
    sa.select(sa.func.min(dependencies.c.rule))
    .join(_awaited, _awaited.c.id == dependencies.c.parent_workflow_id)
    .where(_OF_JOB, _awaited.c.kind == GroupKind.STEPS.value, workflows.c.id == workflows.c.root_id)
    .correlate(jobs, workflows)
    .scalar_subquery()
)
_DELAY = sa.select(sa.func.max(dependencies.c.delay)).where(_OF_JOB).correlate(jobs).scalar_subquery()
_STEP = (
    sa.select(
        _root.c.id.label("workflow_id"),
        _root.c.name.label("workflow"),
        workflows.c.if_failed,
        sa.func.coalesce(jobs.c.step, jobs.c.task_name).label("step"),
        sa.and_(_root.c.cancelled_at.is_not(None), _root.c.finished_at.is_(None)).label("is_cancelled"),
        _RULE.label("rule"),
        _DELAY.label("delay"),
    )
    .select_from(jobs.join(workflows, workflows.c.id == jobs.c.workflow_id))
    .join(_root, _root.c.id == workflows.c.root_id)
)


def read_step(connection: sa.Connection, job_id: int) -> StepFacts | None:
    """Return the workflow of a job, or ``None`` for a job that is no step."""
    row = connection.execute(_STEP.where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        return None
    values = dict(row._mapping)
    rule = values.pop("rule")
    return StepFacts(**values, callback=None if rule is None else callback_of(rule))


_parent, _group = jobs.alias("parent"), workflows.alias("parent_group")
_IS_UNFINISHED = sa.func.coalesce(is_unfinished(_parent, _group), sa.false())
_HAS_NOT_SUCCEEDED = sa.func.coalesce(_parent.c.status != status_literal(Status.SUCCEEDED), True)
_IS_UNSUCCESSFUL = sa.case(
    (
        dependencies.c.parent_id.is_not(None),
        sa.func.coalesce(_parent.c.status != status_literal(Status.SUCCEEDED), True),
    ),
    else_=lacks_success(_group),
)
_NEEDED = (
    sa.select(
        dependencies.c.parent_id.label("job_id"),
        sa.func.coalesce(
            _parent.c.step,
            _parent.c.task_name,
            sa.case((_group.c.kind == GroupKind.STEPS.value, "all steps"), else_=_group.c.name),
            "a step that is gone",
        ).label("name"),
        word_in(_parent).label("word"),
        dependencies.c.parent_workflow_id.label("group_id"),
        sa.func.coalesce(_parent.c.task_name == SIGNAL_TASK, sa.false()).label("is_signal"),
    )
    .select_from(dependencies)
    .outerjoin(_parent, _parent.c.id == dependencies.c.parent_id)
    .outerjoin(_group, _group.c.id == dependencies.c.parent_workflow_id)
    .where(sa.or_(dependencies.c.parent_id.is_not(None), dependencies.c.parent_workflow_id.is_not(None)))
    .order_by(dependencies.c.id)
    .limit(MOST)
)


def read_open(connection: sa.Connection, job_id: int) -> list[Needed]:
    """Return what a step waits for and has not ended, at most 20."""
    return _needed(connection, job_id, ~dependencies.c.is_closed, _IS_UNFINISHED)


def read_broken(connection: sa.Connection, job_id: int) -> list[Needed]:
    """Return what a step needs the success of, and has ended without it, at most 20."""
    return _needed(connection, job_id, dependencies.c.rule == Rule.SUCCESS.value, ~_IS_UNFINISHED, _IS_UNSUCCESSFUL)


def _needed(connection: sa.Connection, job_id: int, *conditions: sa.ColumnElement[bool]) -> list[Needed]:
    rows: Any = connection.execute(_NEEDED.where(dependencies.c.job_id == job_id, *conditions)).all()
    return [
        Needed(
            job_id=parent,
            name=name,
            word=word,
            open_members=0 if group is None else connection.execute(_OPEN_MEMBERS, {"group_id": group}).scalar_one(),
            is_signal=is_signal,
        )
        for parent, name, word, group, is_signal in rows
    ]


def count_open(connection: sa.Connection, job_id: int) -> int:
    """Return the number of steps and groups that a step waits for and that have not ended, up to 1,001."""
    some = _NEEDED.where(dependencies.c.job_id == job_id, ~dependencies.c.is_closed, _IS_UNFINISHED)
    counted = some.order_by(None).limit(COUNTED + 1).subquery()
    return connection.execute(sa.select(sa.func.count()).select_from(counted)).scalar_one()


def _open_members() -> sa.Select[Any]:
    """Count the open steps of a group and of the open groups in it. A group that is part of itself is read once."""
    part = workflows.alias("part")
    whole = sa.select(part.c.id).where(part.c.id == sa.bindparam("group_id", type_=sa.BigInteger())).cte(recursive=True)
    inner = workflows.alias("inner_part")
    parts = whole.union(
        sa.select(inner.c.id).join(whole, inner.c.parent_id == whole.c.id).where(inner.c.finished_at.is_(None))
    )
    member = jobs.alias("member")
    counted = (
        sa.select(member.c.id)
        .join(parts, parts.c.id == member.c.workflow_id)
        .where(member.c.workflow_id.is_not(None), member.c.status.in_([TODO, DOING]))
        .limit(COUNTED + 1)
        .subquery()
    )
    return sa.select(sa.func.count()).select_from(counted)


_OPEN_MEMBERS = _open_members()
