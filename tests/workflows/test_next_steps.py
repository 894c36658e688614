"""The statement that ends a step makes the only step ready that waits for it. Other ends are left to the arrivals."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.app import App
from procrastinate.core import FinishedJob, GroupKind, NewDependency, NewGraph, NewGroup, NewStep, Rule, Status
from tests.conformance.runs import SyncRun
from tests.database import new_job
from tests.workflows.tasks import Notes
from tests.workflows.test_interleavings import ALIVE, LAST, LEFT, Stage

FIRST, NEXT = 1, 2
WAITS = {"readiness": 5, "arrivals": 1}
READY = {"readiness": 0, "arrivals": 0}
_LINK = NewDependency(step=1, rule=Rule.SUCCESS, parent_step=0)
_STEPS = (
    NewStep(job=new_job(), step="first", group=0),
    NewStep(job=new_job(), step="next", group=0, waits=True),
)
_CHAIN = NewGraph(
    if_failed="hold", groups=(NewGroup(kind=GroupKind.WORKFLOW, name="w"),), steps=_STEPS, dependencies=(_LINK,)
)
_OTHER = NewStep(job=new_job(), step="other", group=0)
_GROUP = NewGroup(kind=GroupKind.GROUP, name="pages", parent=0)


@dataclasses.dataclass
class Chain:
    """The tables of a workflow whose first step runs."""

    engine: sa.Engine
    run: SyncRun

    def begin(self, graph: NewGraph = _CHAIN) -> None:
        self.run(core.register_worker)
        self.run(core.create_workflow, graph)
        self.run(core.fetch_jobs, worker_id=ALIVE, limit=1)

    def end(self, status: Status = Status.SUCCEEDED) -> set[int]:
        return self.run(core.finish_jobs, [FinishedJob(id=FIRST, attempts=0, status=status)], worker_id=ALIVE)

    def sql(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)

    def state(self) -> dict[str, int]:
        """Return how far the next step is, and how many arrivals a worker has to look at."""
        query = """
            SELECT readiness, (SELECT count(*) FROM procrastinate_arrivals) AS arrivals
            FROM procrastinate_jobs WHERE id = 2
        """
        with self.engine.connect() as connection:
            return dict(connection.exec_driver_sql(query).mappings().one())


@pytest.fixture
def chain(engine: sa.Engine) -> Chain:
    return Chain(engine, SyncRun(engine))


@pytest.mark.parametrize("rule", [Rule.SUCCESS, Rule.END])
def test_the_next_step_of_a_chain_is_ready_as_soon_as_the_end_of_the_step_before_is_seen(
    chain: Chain, rule: Rule
) -> None:
    chain.begin(dataclasses.replace(_CHAIN, dependencies=(dataclasses.replace(_LINK, rule=rule),)))
    chain.end()
    assert chain.state() == READY
    assert [job.id for job in chain.run(core.fetch_jobs, worker_id=ALIVE, limit=10)] == [NEXT]


def test_the_next_step_waits_when_the_end_of_the_step_before_is_rolled_back(chain: Chain) -> None:
    chain.begin()
    with chain.engine.connect() as connection, connection.begin() as transaction:
        assert core.finish_job_by_id(connection, FIRST, status=Status.SUCCEEDED, delete=False)
        transaction.rollback()
    assert chain.state() == {"readiness": 5, "arrivals": 0}


LEFT_TO_ARRIVALS = {
    "a step that waits for another one, too": dataclasses.replace(
        _CHAIN,
        steps=(*_STEPS, _OTHER),
        dependencies=(_LINK, NewDependency(step=1, rule=Rule.SUCCESS, parent_step=2)),
    ),
    "a step that waits for a group, too": dataclasses.replace(
        _CHAIN,
        groups=(*_CHAIN.groups, _GROUP),
        steps=(*_STEPS, dataclasses.replace(_OTHER, group=1)),
        dependencies=(_LINK, NewDependency(step=1, rule=Rule.SUCCESS, parent_group=1)),
    ),
    "one of two steps that wait": dataclasses.replace(
        _CHAIN,
        steps=(*_STEPS, dataclasses.replace(_OTHER, waits=True)),
        dependencies=(_LINK, NewDependency(step=2, rule=Rule.SUCCESS, parent_step=0)),
    ),
    "a step of another group": dataclasses.replace(
        _CHAIN,
        groups=(*_CHAIN.groups, _GROUP),
        steps=(_STEPS[0], dataclasses.replace(_STEPS[1], group=1)),
    ),
    "a step that starts later": dataclasses.replace(_CHAIN, dependencies=(dataclasses.replace(_LINK, delay=60.0),)),
    "a callback": dataclasses.replace(_CHAIN, dependencies=(dataclasses.replace(_LINK, rule=Rule.ON_SUCCESS),)),
}


@pytest.mark.parametrize("case", LEFT_TO_ARRIVALS)
def test_a_step_that_is_no_link_of_a_chain_is_left_to_the_arrivals(chain: Chain, case: str) -> None:
    chain.begin(LEFT_TO_ARRIVALS[case])
    chain.end()
    assert chain.state() == WAITS


@pytest.mark.parametrize("status", [Status.FAILED, Status.ABORTED])
def test_an_end_without_success_is_left_to_the_arrivals(chain: Chain, status: Status) -> None:
    chain.begin()
    chain.end(status)
    assert chain.state() == WAITS


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_with_one_snapshot_leaves_the_next_step_to_the_arrivals(chain: Chain, level: str) -> None:
    chain.begin()
    with chain.engine.connect().execution_options(isolation_level=level) as connection, connection.begin():
        assert core.finish_job_by_id(connection, FIRST, status=Status.SUCCEEDED, delete=False)
    assert chain.state() == WAITS


def test_a_step_ends_at_once_while_another_session_holds_the_next_one(chain: Chain) -> None:
    chain.begin()
    with chain.engine.begin() as connection:
        connection.exec_driver_sql("SELECT FROM procrastinate_jobs WHERE id = 2 FOR UPDATE")
        assert chain.end() == {FIRST}
    assert chain.state() == WAITS


def test_a_step_ends_although_a_users_trigger_refuses_to_change_the_next_one(chain: Chain) -> None:
    chain.begin()
    chain.sql("CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
    chain.sql(
        "CREATE TRIGGER refuses BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (OLD.id = 2) "
        "EXECUTE FUNCTION refuses()"
    )
    assert chain.end() == {FIRST}
    assert chain.state() == WAITS


def test_the_next_step_with_a_limit_keeps_out_of_the_ready_jobs_until_it_has_a_slot(chain: Chain) -> None:
    limited = dataclasses.replace(new_job(), limit_name="api", limit_key="")
    chain.begin(dataclasses.replace(_CHAIN, steps=(_STEPS[0], dataclasses.replace(_STEPS[1], job=limited))))
    chain.end()
    assert chain.state() == READY
    assert chain.run(core.fetch_jobs, worker_id=ALIVE, limit=10) == []


def chain_of(size: int) -> NewGraph:
    links = tuple(NewDependency(step=n, rule=Rule.SUCCESS, parent_step=n - 1) for n in range(1, size))
    steps = tuple(NewStep(job=new_job(), step=str(n), group=0, waits=n > 0) for n in range(size))
    return dataclasses.replace(_CHAIN, steps=steps, dependencies=links)


def end_next(connection: sa.Connection) -> None:
    """Run the step that is ready."""
    fetched = core.fetch_jobs(connection, worker_id=ALIVE, limit=1)
    ends = [FinishedJob(id=job.id, attempts=job.attempts, status=Status.SUCCEEDED) for job in fetched]
    assert len(core.finish_jobs(connection, ends, worker_id=ALIVE)) == 1


def test_the_next_step_is_found_by_index_with_plans_that_were_made_on_small_tables(
    connection: sa.Connection,
) -> None:
    core.register_worker(connection)
    core.create_workflow(connection, chain_of(10))
    for _ in range(10):
        end_next(connection)
    core.create_workflow(connection, chain_of(5_000))
    read = "SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_xact_user_tables WHERE relname = 'procrastinate_%s'"
    connection.commit()
    with connection.execution_options(isolation_level="READ COMMITTED").begin():
        before = [connection.exec_driver_sql(read % name).scalar_one() for name in ("jobs", "dependencies")]
        end_next(connection)
        after = [connection.exec_driver_sql(read % name).scalar_one() for name in ("jobs", "dependencies")]
    assert after == before


class ChainStage(Stage):
    """The scene of the interleavings with a chain: LEFT runs, LAST waits for it, and AFTER and BLOCKED for LAST."""

    graph = NewGraph(
        if_failed="cancel",
        groups=(NewGroup(kind=GroupKind.WORKFLOW, name="w"), _GROUP),
        steps=(
            NewStep(job=new_job(), step="left", group=0),
            NewStep(job=new_job(), step="right", group=0),
            NewStep(job=new_job(), step="member", group=1),
            NewStep(job=new_job(), step="last", group=0, waits=True),
            NewStep(job=new_job(), step="after", group=0, waits=True),
            NewStep(job=new_job(), step="failed", group=1),
            NewStep(job=new_job(), step="blocked", group=0, waits=True),
        ),
        dependencies=(
            NewDependency(step=3, rule=Rule.SUCCESS, parent_step=0),
            NewDependency(step=4, rule=Rule.SUCCESS, parent_step=3),
            NewDependency(step=6, rule=Rule.SUCCESS, parent_step=4),
        ),
    )

    @staticmethod
    def _check_needs(jobs: dict[int, Status]) -> None:
        for job_id, needed in ((LAST, LEFT), (5, LAST), (7, 5)):
            if jobs.get(job_id) is Status.SUCCEEDED:
                assert jobs.get(needed) is Status.SUCCEEDED


PAIRS = [
    ("finish left", "add edge"),
    ("finish left", "cancel"),
    ("finish left", "retry"),
    ("finish left", "delete"),
    ("finish left", "cancel last and roll back"),
    ("finish all", "resolve"),
]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("names", PAIRS, ids=" | ".join)
def test_no_order_of_two_transactions_loses_the_next_step(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    monkeypatch.setattr("tests.workflows.test_interleavings.set_up", set_up)
    assert ChainStage(engine).play(names) >= 2


def set_up(run: SyncRun) -> None:
    assert run(core.register_worker) == ALIVE
    run(core.create_workflow, ChainStage.graph)
    assert len(run(core.fetch_jobs, worker_id=ALIVE, limit=10)) == 4
    run(core.finish_jobs, [FinishedJob(id=6, attempts=0, status=Status.FAILED)], worker_id=ALIVE)


class CountsLookups(dict[str, Any]):
    """Counts how often a name is looked up."""

    lookups = 0

    def __contains__(self, key: object) -> bool:
        self.lookups += 1
        return super().__contains__(key)


def test_a_chain_of_one_task_is_named_with_as_much_work_for_its_last_steps_as_for_its_first(
    app: App, tasks: Notes
) -> None:
    wf = app.workflow("chain")
    wf._names = names = CountsLookups()
    wf.add(tasks.note, step="note-3")
    added = [wf.add(tasks.note).name for _ in range(100)]
    assert added[:3] == ["note", "note-2", "note-4"]
    assert len(set(added)) == 100
    assert names.lookups < 500
