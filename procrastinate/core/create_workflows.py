"""Operations that store workflows, and add steps to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from procrastinate import exceptions
from procrastinate.core.arrays import array_param, unnest
from procrastinate.core.defer import Extent, extent_of, stored, values_of
from procrastinate.core.operation_marks import atomic
from procrastinate.core.tables import IN_LINE, UNDECIDED, WAITS_FOR_OTHERS, arrivals, dependencies, jobs, workflows
from procrastinate.core.workflow_rows import NewDependency, NewGraph, NewGroup, NewStep, StoredGraph

T = TypeVar("T")

_STORED_AT_ONCE = 5_000
"""Rows of one statement."""
NEVER = sa.literal_column("'infinity'::timestamptz", type_=sa.DateTime(timezone=True))
"""The schedule of a step that waits for others. No release fetches a job before its schedule."""


def after(seconds: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the time ``seconds`` from now."""
    return sa.func.now() + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds, type_=sa.Interval())


def _draw(table: sa.Table) -> sa.Select[Any]:
    number = sa.func.nextval(sa.func.pg_get_serial_sequence(table.name, "id"), type_=sa.BigInteger())
    return sa.select(number).select_from(sa.func.generate_series(1, sa.bindparam("number", type_=sa.Integer())))


_DRAW_JOBS = _draw(jobs)
_DRAW_GROUPS = _draw(workflows)

_GROUP_COLUMNS: dict[str, TypeEngine[Any]] = {
    "id": sa.BigInteger(),
    "root_id": sa.BigInteger(),
    "parent_id": sa.BigInteger(),
    "kind": sa.Text(),
    "name": sa.Text(),
    "if_failed": sa.Text(),
}
_new_groups = unnest(_GROUP_COLUMNS, name="new_groups")
_INSERT_GROUPS = sa.insert(workflows).from_select(
    list(_GROUP_COLUMNS), sa.select(*(_new_groups.c[name] for name in _GROUP_COLUMNS))
)

_STORED_OF_STEP: dict[str, TypeEngine[Any]] = {"id": sa.BigInteger(), "workflow_id": sa.BigInteger(), "step": sa.Text()}


def _step_columns(extent: Extent) -> dict[str, TypeEngine[Any]]:
    return {**values_of(extent=extent), **_STORED_OF_STEP, "waits": sa.Boolean(), "delay": sa.Double()}


def _insert_steps(extent: Extent) -> sa.Insert:
    new = unnest(_step_columns(extent), name="new_steps")
    given = {name: stored(name, new.c[name]) for name in (*values_of(extent=extent), *_STORED_OF_STEP)}
    is_in_line = sa.and_(new.c.limit_name.is_not(None), new.c.delay.is_(None), new.c.scheduled_at.is_(None))
    values = given | {
        "scheduled_at": sa.case(
            (new.c.waits, NEVER),
            (new.c.delay.is_not(None), after(new.c.delay)),
            (is_in_line, sa.func.now()),
            else_=new.c.scheduled_at,
        ),
        "readiness": sa.case((new.c.waits, WAITS_FOR_OTHERS), (is_in_line, IN_LINE), else_=UNDECIDED),
    }
    return sa.insert(jobs).from_select(list(values), sa.select(*values.values()).order_by(new.c.ordinality))


_INSERT_STEPS = {extent: _insert_steps(extent) for extent in (Extent.EXTENDED, Extent.WEIGHED)}

_DEPENDENCY_COLUMNS: dict[str, TypeEngine[Any]] = {
    "job_id": sa.BigInteger(),
    "parent_id": sa.BigInteger(),
    "parent_workflow_id": sa.BigInteger(),
    "rule": sa.SmallInteger(),
    "argument": sa.Text(),
    "delay": sa.Double(),
}
_new_dependencies = unnest(_DEPENDENCY_COLUMNS, name="new_dependencies")
_INSERT_DEPENDENCIES = sa.insert(dependencies).from_select(
    list(_DEPENDENCY_COLUMNS),
    sa.select(
        *(
            sa.cast(_new_dependencies.c[name], JSONB) if name == "argument" else _new_dependencies.c[name]
            for name in _DEPENDENCY_COLUMNS
        )
    ),
)


@atomic
def create_workflow(connection: sa.Connection, graph: NewGraph) -> StoredGraph:
    """Store a workflow with all its groups, steps and dependencies, in a few statements for any size.

    The first group is the workflow. No row is locked that another session could wait for.
    """
    group_ids = list(connection.execute(_DRAW_GROUPS, {"number": len(graph.groups)}).scalars())
    places = range(len(graph.groups))
    return _store(connection, graph, group_ids, root_id=group_ids[0], new_groups=places, if_failed=graph.if_failed)


_OPEN_GROUP = (
    sa.select(workflows.c.root_id, workflows.c.if_failed)
    .where(workflows.c.id == sa.bindparam("group_id", type_=sa.BigInteger()), workflows.c.finished_at.is_(None))
    .with_for_update(read=True, key_share=True)
)
_IS_CANCELLED = sa.select(workflows.c.cancelled_at.is_not(None)).where(
    workflows.c.id == sa.bindparam("root_id", type_=sa.BigInteger())
)


@atomic
def add_to_workflow(connection: sa.Connection, group_id: int, graph: NewGraph) -> StoredGraph:
    """Add groups and steps to a group that has not ended. The first group of the graph stands for it.

    The group's row stays locked until the commit, so that nothing takes the group for ended before the steps can be
    seen. Members of the group end without that row.

    Raises
    ------
    WorkflowEnded
        The group has ended, or its workflow was cancelled.
    """
    group = connection.execute(_OPEN_GROUP, {"group_id": group_id}).one_or_none()
    if group is None or connection.execute(_IS_CANCELLED, {"root_id": group.root_id}).scalar_one():
        raise exceptions.WorkflowEnded(
            f"Nothing can be added to group {group_id} of a workflow: it has ended, or the workflow was cancelled"
        )
    drawn = connection.execute(_DRAW_GROUPS, {"number": len(graph.groups) - 1}).scalars().all()
    stored = _store(
        connection,
        graph,
        [group_id, *drawn],
        root_id=group.root_id,
        new_groups=range(1, len(graph.groups)),
        if_failed=group.if_failed,
    )
    waiting = [job_id for job_id, step in zip(stored.job_ids, graph.steps, strict=True) if step.waits]
    append_arrivals(connection, waiting=waiting)
    call_workers(connection, waiting)
    return stored


def _store(
    connection: sa.Connection,
    graph: NewGraph,
    group_ids: list[int],
    *,
    root_id: int,
    new_groups: Sequence[int],
    if_failed: str,
) -> StoredGraph:
    job_ids = list(connection.execute(_DRAW_JOBS, {"number": len(graph.steps)}).scalars()) if graph.steps else []
    groups = [_group_row(graph.groups[place], group_ids, place, root_id, if_failed) for place in new_groups]
    if groups:
        connection.execute(_INSERT_GROUPS, _parameters(groups, _GROUP_COLUMNS))
    for part in _parts(list(zip(job_ids, graph.steps, strict=True))):
        rows = [_step_row(job_id, step, group_ids) for job_id, step in part]
        extent = max(Extent.EXTENDED, *(extent_of(step.job) for _, step in part))
        connection.execute(_INSERT_STEPS[extent], _parameters(rows, _step_columns(extent)))
    for edges in _parts(graph.dependencies):
        rows = [_dependency_row(edge, group_ids, job_ids) for edge in edges]
        connection.execute(_INSERT_DEPENDENCIES, _parameters(rows, _DEPENDENCY_COLUMNS))
    _begin(connection, graph, group_ids, job_ids, new_groups)
    return StoredGraph(group_ids=tuple(group_ids), job_ids=tuple(job_ids))


def _begin(
    connection: sa.Connection, graph: NewGraph, group_ids: list[int], job_ids: list[int], new_groups: Sequence[int]
) -> None:
    """Have workers look at what no end of a member will tell: groups without members, and the time of signals."""
    empty = _empty_groups(graph, group_ids, new_groups)
    timed = [job_ids[edge.step] for edge in graph.dependencies if edge.waits_for_nothing]
    if empty or timed:
        append_arrivals(connection, groups=empty, waiting=timed)
        call_workers(connection, job_ids[:LOOKED_AT_ONCE])


def _empty_groups(graph: NewGraph, group_ids: list[int], new_groups: Sequence[int]) -> list[int]:
    """Return the ids of groups without members: no end of a member will tell that they have ended."""
    filled = {step.group for step in graph.steps} | {group.parent for group in graph.groups}
    return [group_ids[place] for place in new_groups if place not in filled]


def _group_row(group: NewGroup, ids: list[int], place: int, root_id: int, if_failed: str) -> dict[str, Any]:
    return {
        "id": ids[place],
        "root_id": root_id,
        "parent_id": None if group.parent is None else ids[group.parent],
        "kind": group.kind.value,
        "name": group.name,
        "if_failed": if_failed,
    }


def _step_row(job_id: int, step: NewStep, group_ids: list[int]) -> dict[str, Any]:
    return {
        **{name: getattr(step.job, name) for name in values_of(extent=Extent.WEIGHED)},
        "id": job_id,
        "workflow_id": group_ids[step.group],
        "step": step.step,
        "waits": step.waits,
        "delay": step.delay,
    }


def _dependency_row(edge: NewDependency, group_ids: list[int], job_ids: list[int]) -> dict[str, Any]:
    return {
        "job_id": job_ids[edge.step],
        "parent_id": edge.parent_id if edge.parent_step is None else job_ids[edge.parent_step],
        "parent_workflow_id": (edge.parent_workflow_id if edge.parent_group is None else group_ids[edge.parent_group]),
        "rule": edge.rule.value,
        "argument": edge.argument,
        "delay": edge.delay,
    }


def _parameters(rows: Sequence[dict[str, Any]], columns: dict[str, TypeEngine[Any]]) -> dict[str, list[Any]]:
    return {f"{name}_list": [row[name] for row in rows] for name in columns}


def _parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), _STORED_AT_ONCE):
        yield rows[start : start + _STORED_AT_ONCE]


LOOKED_AT_ONCE = 500
"""Ids in one arrival, and so the number of steps that one look decides on."""


_CALL_WORKERS = (
    sa.select(
        sa.func.procrastinate_notify_waiting(
            sa.cast(jobs.c.queue_name, sa.Text), sa.func.max(jobs.c.id), sa.true(), sa.literal_column("1::bigint")
        )
    )
    .where(jobs.c.id == sa.any_(array_param("ids", sa.BigInteger())))
    .group_by(jobs.c.queue_name)
)


def call_workers(connection: sa.Connection, job_ids: Sequence[int]) -> None:
    """Notify a worker of each queue of these jobs, so that it looks at the arrivals after the commit."""
    if job_ids:
        connection.execute(_CALL_WORKERS, {"ids": list(job_ids)})


def append_arrivals(
    connection: sa.Connection,
    *,
    groups: Sequence[int] = (),
    waiting: Sequence[int] = (),
    lost: Sequence[int] = (),
) -> None:
    """Have workers look at groups that may have ended, and at steps that wait."""
    rows: list[dict[str, Any]] = []
    for start in range(0, len(waiting), LOOKED_AT_ONCE):
        rows.append({"ended": [], "groups": [], "waiting": list(waiting[start : start + LOOKED_AT_ONCE]), "lost": []})
    if groups or lost:
        rows.append({"ended": [], "groups": list(groups), "waiting": [], "lost": list(lost)})
    if rows:
        connection.execute(sa.insert(arrivals), rows)
