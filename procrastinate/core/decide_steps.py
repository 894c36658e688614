"""The operation that makes the next steps of workflows ready, or cancels them.

The next step of a chain needs no such decision. If one step alone waits for a job of its group, and waits for nothing
else, triggers make it ready in the transaction in which the job succeeds (``procrastinate_go_on`` of revision p0016).
This operation decides on all other steps, and on those that the triggers left, for example because they were locked.

Triggers write each end of a member to the arrivals, in the transaction of the end. This operation takes a few arrivals.
It finishes the groups whose last member has ended, and decides on each step that waits for one of these ends.

A decision reads the jobs and groups themselves and counts nothing, so it may be made twice. Every transaction that ends
a job, adds a step or adds a dependency appends an arrival, except for the ends that the triggers have settled. Of two
such transactions, one commits last. The operation reads the arrival of this one in a snapshot that sees both.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.core.arrays import array_param, is_one_of, unnest
from procrastinate.core.create_workflows import LOOKED_AT_ONCE, after, append_arrivals
from procrastinate.core.enums import Status
from procrastinate.core.finish_groups import ENDS, finish_groups, lacks_success
from procrastinate.core.operation_marks import atomic
from procrastinate.core.refusals import AtOnce, Changer, InParts
from procrastinate.core.tables import (
    TODO,
    UNDECIDED,
    WAITS_FOR_OTHERS,
    arrivals,
    dependencies,
    errors,
    jobs,
    one_more,
    status_literal,
    workflows,
)
from procrastinate.core.workflow_rows import Resolution, Rule

_TAKEN_AT_ONCE = 20
"""Arrivals of one look."""

_IDS = array_param("ids", sa.BigInteger())
_TAKE = (
    sa.delete(arrivals)
    .where(
        is_one_of(
            arrivals.c.id,
            sa.select(arrivals.c.id).order_by(arrivals.c.id).limit(_TAKEN_AT_ONCE).with_for_update(skip_locked=True),
        )
    )
    .returning(arrivals.c.ended, arrivals.c.groups, arrivals.c.waiting, arrivals.c.lost)
)


def _ids(array: Iterable[Any]) -> Iterator[int]:
    """Yield the ids of an array. Plain SQL may have stored NULLs, or an array of arrays."""
    for item in array:
        if isinstance(item, list):
            yield from _ids(item)
        elif item is not None:
            yield item


@atomic
def resolve_arrivals(connection: sa.Connection, *, in_parts: bool = False) -> Resolution:
    """Look at a few arrivals: finish groups, and release or cancel the steps that waited for what has ended.

    For a worker. It passes over every row that another session has locked, and looks at it again later.

    Parameters
    ----------
    in_parts:
        Also pass over every row that the database refuses to change. Without it, one such row raises the error.
    """
    of_groups, of_steps = (InParts(connection), InParts(connection)) if in_parts else (AtOnce(), AtOnce())
    taken = connection.execute(_TAKE).all()
    if not taken:
        return Resolution()
    lost = Counter(group for row in taken for group in _ids(row.lost))
    groups = finish_groups(connection, {group for row in taken for group in _ids(row.groups)}, lost, of_groups)
    waiting = _waiting_for_jobs(connection, sorted({job for row in taken for job in _ids(row.ended)}))
    waiting |= waiting_for_groups(connection, groups.finished) | {job for row in taken for job in _ids(row.waiting)}
    now, later = sorted(waiting)[:LOOKED_AT_ONCE], sorted(waiting)[LOOKED_AT_ONCE:]
    decided = decide_on_steps(connection, now, of_steps)
    append_arrivals(
        connection,
        groups=groups.left,
        waiting=[*decided.left, *later],
        lost=[group for group in groups.left for _ in range(lost[group])],
    )
    return Resolution(
        taken=len(taken),
        released=decided.released,
        cancelled=decided.cancelled,
        finished=len(groups.finished),
        left=bool(set(groups.left) - of_groups.refused.keys() or set(decided.left) - of_steps.refused.keys()),
        refused={**of_groups.refused, **of_steps.refused},
    )


# Steps


_of_jobs = dependencies.alias("of_jobs")
_CLOSED = (
    sa.update(dependencies)
    .where(dependencies.c.parent_id == sa.any_(_IDS), ~dependencies.c.is_closed)
    .values(is_closed=True)
    .returning(dependencies.c.id)
    .cte("closed")
)
_WAITING_FOR_JOBS = (
    sa.select(_of_jobs.c.job_id).where(_of_jobs.c.parent_id == sa.any_(_IDS)).distinct().add_cte(_CLOSED)
)
_WAITING_FOR_GROUPS = (
    sa.select(dependencies.c.job_id).where(dependencies.c.parent_workflow_id == sa.any_(_IDS)).distinct()
)


def _waiting_for_jobs(connection: sa.Connection, ended: Sequence[int]) -> set[int]:
    return set(connection.execute(_WAITING_FOR_JOBS, {"ids": ended}).scalars()) if ended else set()


def waiting_for_groups(connection: sa.Connection, finished: Sequence[int]) -> set[int]:
    """Return the ids of the steps that wait for one of these groups."""
    return set(connection.execute(_WAITING_FOR_GROUPS, {"ids": finished}).scalars()) if finished else set()


@dataclasses.dataclass
class Decided:
    """Steps that were released and cancelled, and steps that could not be decided on."""

    released: int = 0
    cancelled: int = 0
    left: list[int] = dataclasses.field(default_factory=list)


_parent, _group, _root = jobs.alias("parent"), workflows.alias("parent_group"), workflows.alias("root")
_ENDED_STATUSES = [status_literal(end) for end in ENDS]


def is_unfinished(job: sa.FromClause, group: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition "what a dependency leads to has not ended". One of the two is there, by an outer join."""
    return sa.or_(job.c.status.not_in(_ENDED_STATUSES), sa.and_(group.c.id.is_not(None), group.c.finished_at.is_(None)))


_HAS_SUCCEEDED = sa.case(
    (
        dependencies.c.parent_id.is_not(None),
        sa.func.coalesce(_parent.c.status == status_literal(Status.SUCCEEDED), False),
    ),
    else_=sa.func.coalesce(~lacks_success(_group), False),
)
_IS_BROKEN = sa.case(
    (dependencies.c.rule == Rule.END.value, False),
    (
        dependencies.c.rule == Rule.ON_FAILURE.value,
        sa.or_(_HAS_SUCCEEDED, _root.c.cancelled_at.is_not(None)),
    ),
    else_=~_HAS_SUCCEEDED,
)
_HAS_DEPENDENCY = dependencies.c.id.is_not(None)
_IS_CALLBACK = dependencies.c.rule >= Rule.ON_SUCCESS.value


def _still_waits(job: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    return sa.and_(job.c.status == TODO, job.c.readiness == WAITS_FOR_OTHERS)


def _blocked_statement() -> sa.Select[Any]:
    """Return those waiting steps that wait for nothing that is known to be open.

    The probe reads dependencies that are not closed, and stops at the first whose parent has not ended.
    """
    edge, parent, group = dependencies.alias("edge"), jobs.alias("its_job"), workflows.alias("its_group")
    first_open = (
        sa.select(edge.c.id)
        .select_from(
            edge.outerjoin(parent, parent.c.id == edge.c.parent_id).outerjoin(
                group, group.c.id == edge.c.parent_workflow_id
            )
        )
        .where(
            edge.c.job_id == jobs.c.id,
            ~edge.c.is_closed,
            is_unfinished(parent, group),
        )
        .limit(1)
    )
    return sa.select(jobs.c.id).where(jobs.c.id == sa.any_(_IDS), _still_waits(), ~first_open.correlate(jobs).exists())


_UNBLOCKED = _blocked_statement()
_NAMED = sa.func.coalesce(_parent.c.step, _group.c.name)
_first_broken = sa.func.array_agg(_NAMED).filter(sa.and_(_IS_BROKEN, ~_IS_CALLBACK))
_own_group = workflows.alias("own_group")
_VERDICTS = (
    sa.select(
        jobs.c.id,
        sa.func.bool_or(sa.func.coalesce(is_unfinished(_parent, _group), False)).label("is_open"),
        sa.func.bool_or(sa.and_(_HAS_DEPENDENCY, _IS_BROKEN, ~_IS_CALLBACK)).label("is_broken"),
        sa.func.bool_or(sa.and_(_HAS_DEPENDENCY, _IS_BROKEN, _IS_CALLBACK)).label("is_unneeded"),
        sa.func.max(dependencies.c.delay).label("delay"),
        sa.type_coerce(sa.func.array_to_string(_first_broken, ", "), sa.Text()).label("breakers"),
        sa.func.min(_own_group.c.if_failed).label("if_failed"),
        sa.func.min(_own_group.c.root_id).label("root_id"),
    )
    .select_from(
        jobs.join(_own_group, _own_group.c.id == jobs.c.workflow_id)
        .outerjoin(dependencies, dependencies.c.job_id == jobs.c.id)
        .outerjoin(_parent, _parent.c.id == dependencies.c.parent_id)
        .outerjoin(_group, _group.c.id == dependencies.c.parent_workflow_id)
        .outerjoin(_root, _root.c.id == _group.c.root_id)
    )
    .where(jobs.c.id == sa.any_(_IDS), _still_waits())
    .group_by(jobs.c.id)
)
_SHARE_ROOTS = (
    sa.select(workflows.c.id).where(workflows.c.id == sa.any_(_IDS)).with_for_update(read=True, skip_locked=True)
)


def decide_on_steps(connection: sa.Connection, waiting: Sequence[int], changer: Changer) -> Decided:
    """Release the steps that have what they need, and cancel the steps that will not get it."""
    decided = Decided()
    unblocked = sorted(connection.execute(_UNBLOCKED, {"ids": waiting}).scalars()) if waiting else []
    if not unblocked:
        return decided
    verdicts = [row for row in connection.execute(_VERDICTS, {"ids": unblocked}) if not row.is_open]
    free = [row for row in verdicts if not row.is_broken and not row.is_unneeded and row.delay != float("inf")]
    if free:
        _release(connection, free, decided, changer)
    ending = [row for row in verdicts if _is_cancelled(row)]
    if ending:
        _cancel(connection, ending, decided, changer)
    return decided


def _is_cancelled(verdict: sa.Row[Any]) -> bool:
    return bool(verdict.is_unneeded or (verdict.is_broken and verdict.if_failed == "cancel"))


def _locked(rows: sa.TableValuedAlias) -> sa.CTE:
    """Lock the steps that still wait. A row that another session has locked is left out."""
    row = jobs.alias("waiting_now")
    held = (
        sa.select(row.c.id)
        .where(row.c.id == rows.c.id, _still_waits(row))
        .limit(1)
        .with_for_update(skip_locked=True)
        .lateral("held")
    )
    columns = [column for column in rows.c if column.name not in ("id", "ordinality")]
    return (
        sa.select(held.c.id, *columns)
        .select_from(rows.join(held, sa.true()))
        .cte("locked")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )


def _release_statement() -> Any:
    """Release steps. One with a limit keeps a schedule, which keeps it out of the indexes of ready jobs until it has
    a slot."""
    step = _locked(unnest({"id": sa.BigInteger(), "delay": sa.Double()}, name="step"))
    due = sa.case((step.c.delay.is_not(None), after(step.c.delay)), (jobs.c.limit_name.is_not(None), sa.func.now()))
    return (
        sa.update(jobs)
        .where(jobs.c.id == step.c.id, is_one_of(jobs.c.id, sa.select(step.c.id)))
        .values(readiness=UNDECIDED, scheduled_at=due)
        .returning(jobs.c.id)
    )


_ERROR_TEXTS = ("exception_class", "message", "traceback")


def _cancel_statement() -> Any:
    columns: dict[str, Any] = {"id": sa.BigInteger(), **{name: sa.Text() for name in _ERROR_TEXTS}}
    step = _locked(unnest(columns, name="step"))
    ended = (
        sa.update(jobs)
        .where(jobs.c.id == step.c.id, is_one_of(jobs.c.id, sa.select(step.c.id)))
        .values(status=status_literal(Status.CANCELLED), finished_at=sa.func.now(), readiness=UNDECIDED)
        .returning(jobs.c.id, one_more(jobs.c.attempts).label("attempt"), *(step.c[name] for name in _ERROR_TEXTS))
        .cte("ended")
    )
    why = sa.insert(errors).from_select(
        ["job_id", "attempt", *_ERROR_TEXTS],
        sa.select(ended.c.id, ended.c.attempt, *(ended.c[name] for name in _ERROR_TEXTS)).where(
            ended.c.message.is_not(None)
        ),
    )
    return sa.select(ended.c.id).add_cte(why.cte("why"))


_RELEASE = _release_statement()
_CANCEL = _cancel_statement()


def _release(connection: sa.Connection, free: Sequence[sa.Row[Any]], decided: Decided, changer: Changer) -> None:
    delays = {row.id: row.delay for row in free}

    def release(ids: Sequence[int]) -> list[int]:
        parameters = {"id_list": list(ids), "delay_list": [delays[job_id] for job_id in ids]}
        return list(connection.execute(_RELEASE, parameters).scalars())

    released = set(changer.change(list(delays), release))
    decided.released += len(released)
    decided.left += [row.id for row in free if row.id not in released]


def _cancel(connection: sa.Connection, ending: Sequence[sa.Row[Any]], decided: Decided, changer: Changer) -> None:
    """Cancel steps, unless their workflow is being retried.

    A retry locks the workflow. What it has sent back must not count as failed, so this looks again under the lock.
    """
    roots = {row.root_id for row in ending}
    shared = set(connection.execute(_SHARE_ROOTS, {"ids": sorted(roots)}).scalars())
    decided.left += [row.id for row in ending if row.root_id not in shared]
    chosen = sorted(row.id for row in ending if row.root_id in shared)
    again = connection.execute(_VERDICTS, {"ids": chosen}).all() if chosen else []
    rows = [row for row in again if not row.is_open and _is_cancelled(row)]
    if not rows:
        return
    cancelled = set(_cancel_locked(connection, {row.id: _why(row) for row in rows}, changer))
    decided.cancelled += len(cancelled)
    decided.left += [row.id for row in rows if row.id not in cancelled]


def cancel_steps_alone(connection: sa.Connection, reasons: Mapping[int, str], changer: Changer) -> list[int]:
    """Cancel steps that wait, each with its reason as error. Return the ids of those that were cancelled."""
    whys: dict[int, dict[str, str] | None] = {job_id: _error(reason) for job_id, reason in reasons.items()}
    return _cancel_locked(connection, whys, changer) if whys else []


def _cancel_locked(connection: sa.Connection, whys: Mapping[int, dict[str, str] | None], changer: Changer) -> list[int]:
    def cancel(ids: Sequence[int]) -> list[int]:
        errors = [whys[job_id] for job_id in ids]
        texts = {f"{name}_list": [error and error[name] for error in errors] for name in _ERROR_TEXTS}
        return list(connection.execute(_CANCEL, {"id_list": list(ids), **texts}).scalars())

    return changer.change(list(whys), cancel)


def _why(verdict: sa.Row[Any]) -> dict[str, str] | None:
    """Return the error of a step that is cancelled, or ``None`` for a callback that is not needed."""
    if not verdict.is_broken:
        return None
    return _error(f"This step needs the success of {verdict.breakers or 'a step that is gone'}, which did not succeed")


def _error(reason: str) -> dict[str, str]:
    error = exceptions.StepNotReached(reason)
    path = f"{type(error).__module__}.{type(error).__qualname__}"
    return {"exception_class": path, "message": str(error), "traceback": f"{path}: {error}\n"}
