"""Safety net under the arrivals: decide on steps and groups that no arrival names, and end steps that nothing can free.

Arrivals may be lost: a user has truncated their table, or the triggers were off. A step whose dependencies are lost
would wait without an end, because no end of another job leads to it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import array_param
from procrastinate.core.decide_steps import cancel_steps_alone, decide_on_steps, waiting_for_groups
from procrastinate.core.defaults import LARGEST_ID
from procrastinate.core.finish_groups import finish_groups
from procrastinate.core.operation_marks import atomic
from procrastinate.core.refusals import InParts
from procrastinate.core.tables import arrivals, dependencies, jobs, waits_for_others, workflows

_IDS = array_param("ids", sa.BigInteger())
_LIMIT = sa.bindparam("limit", type_=sa.Integer())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkflowSweep:
    """Result of one step of the sweep.

    ``released`` steps may run, ``cancelled`` ones may not, and ``finished`` groups have ended. ``stranded`` are the ids
    of cancelled steps whose dependencies are gone. ``reached_step`` and ``reached_group`` are the places after which
    the next step of the sweep begins, or ``None`` if it begins a new round. ``refused`` has the rows that the database
    refuses to change, with its messages.
    """

    released: int = 0
    cancelled: int = 0
    finished: int = 0
    stranded: tuple[int, ...] = ()
    reached_step: int | None = None
    reached_group: int | None = None
    refused: Mapping[int, str] = dataclasses.field(default_factory=dict)


def _next_rows() -> sa.Select[Any]:
    """Return the next steps that wait and the next groups, by their ids. Each is a walk through an index."""
    step = (
        sa.select(jobs.c.id)
        .where(waits_for_others(), jobs.c.id > sa.bindparam("after_step", type_=sa.BigInteger()))
        .order_by(jobs.c.id)
        .limit(_LIMIT)
        .subquery("step")
    )
    group = (
        sa.select(workflows.c.id, workflows.c.finished_at)
        .where(workflows.c.id > sa.bindparam("after_group", type_=sa.BigInteger()))
        .order_by(workflows.c.id)
        .limit(_LIMIT)
        .subquery("next_group")
    )
    return sa.select(
        sa.select(sa.func.array_agg(step.c.id)).scalar_subquery().label("steps"),
        sa.select(sa.func.array_agg(group.c.id).filter(group.c.finished_at.is_(None)))
        .scalar_subquery()
        .label("open_groups"),
        sa.select(sa.func.count()).select_from(group).scalar_subquery().label("groups"),
        sa.select(sa.func.max(group.c.id)).scalar_subquery().label("last_group"),
    )


_NEXT_ROWS = _next_rows()


def _stranded() -> sa.Select[Any]:
    """Return those steps that have no dependencies. A retry of their workflow may name some for the next look."""
    has_dependency = sa.select(dependencies.c.id).where(dependencies.c.job_id == jobs.c.id).exists()
    is_named = sa.select(arrivals.c.id).where(jobs.c.id == sa.any_(arrivals.c.waiting)).exists()
    return (
        sa.select(jobs.c.id, workflows.c.root_id)
        .select_from(jobs.outerjoin(workflows, workflows.c.id == jobs.c.workflow_id))
        .where(jobs.c.id == sa.any_(_IDS), waits_for_others(), ~has_dependency, ~is_named)
        .order_by(jobs.c.id)
    )


_STRANDED = _stranded()
_SHARE_ROOTS = (
    sa.select(workflows.c.id).where(workflows.c.id == sa.any_(_IDS)).with_for_update(read=True, skip_locked=True)
)
_WHY = (
    "The rows of procrastinate_dependencies that say what this step waits for are gone. "
    "A retry of the workflow runs it at once"
)


@atomic
def sweep_workflows(
    connection: sa.Connection, *, after_step: int | None = None, after_group: int | None = None, limit: int = 200
) -> WorkflowSweep:
    """Look at up to ``limit`` steps that wait and ``limit`` groups as if an arrival named each of them.

    A step that has no dependencies any more is cancelled with an error. It passes over every row that another session
    has locked.

    Parameters
    ----------
    after_step, after_group:
        The places that the last call has reached. ``None`` begins a round.
    """
    beginning = -LARGEST_ID
    places = {
        "after_step": beginning if after_step is None else after_step,
        "after_group": beginning if after_group is None else after_group,
        "limit": limit,
    }
    row = connection.execute(_NEXT_ROWS, places).one()
    steps: list[int] = sorted(row.steps or ())
    of_groups, of_steps = InParts(connection), InParts(connection)
    stranded = _cancel_stranded(connection, steps, of_steps) if steps else []
    groups = finish_groups(connection, set(row.open_groups or ()), Counter(), of_groups)
    waiting = sorted({*steps, *waiting_for_groups(connection, groups.finished)} - {*stranded})
    decided = decide_on_steps(connection, waiting, of_steps)
    return WorkflowSweep(
        released=decided.released,
        cancelled=decided.cancelled + len(stranded),
        finished=len(groups.finished),
        stranded=tuple(stranded),
        reached_step=steps[-1] if len(steps) == limit else None,
        reached_group=row.last_group if row.groups == limit else None,
        refused={**of_groups.refused, **of_steps.refused},
    )


def _cancel_stranded(connection: sa.Connection, steps: Sequence[int], changer: InParts) -> list[int]:
    """Cancel the steps without dependencies.

    A retry of the workflow lets steps without dependencies wait for a moment. It locks the workflow, so this looks
    again under a lock.
    """
    found = connection.execute(_STRANDED, {"ids": steps}).all()
    if not found:
        return []
    roots = sorted({row.root_id for row in found if row.root_id is not None})
    shared = set(connection.execute(_SHARE_ROOTS, {"ids": roots}).scalars())
    chosen = [row.id for row in found if row.root_id is None or row.root_id in shared]
    ids = [row.id for row in connection.execute(_STRANDED, {"ids": chosen})]
    return cancel_steps_alone(connection, dict.fromkeys(ids, _WHY), changer)
