"""What waits costs a fetch nothing: the plans, on a table with everything in the way.

Each test runs on a table that was never analysed and on one that was, with plans made for the values and with
plans made for any values, as a driver gets that prepares its statements.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Concatenate

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import (
    FetchedJob,
    FinishedJob,
    JobRetry,
    NewError,
    Rank,
    ReportKind,
    Status,
    UniqueJob,
    UniqueKey,
    defer,
)
from procrastinate.core.listing import first_waiting
from procrastinate.types import OnConflict
from tests.core.plans import Plan, explain
from tests.database import Databases, new_job

READY = "procrastinate_jobs_ready_idx"
READY_OF_QUEUE = "procrastinate_jobs_ready_queue_idx"
UPCOMING = "procrastinate_jobs_upcoming_idx"
PARKED = "procrastinate_jobs_parked_idx"
LOCK_HOLDER = "procrastinate_jobs_lock_holder_idx"
QUEUEING_LOCK = "procrastinate_jobs_queueing_lock_idx_v1"
DOING = "procrastinate_jobs_doing_idx"
FINISHED = "procrastinate_jobs_finished_idx"
TICK = "procrastinate_periodic_defers_unique"
PRIMARY_KEY = "procrastinate_jobs_pkey"

ENDED = "(ARRAY['succeeded', 'succeeded', 'succeeded', 'failed'])[1 + mod(n, 4)]::procrastinate_job_status"

CROWD: list[tuple[int, dict[str, str]]] = [
    (
        50_000,
        {"task_name": "'future'", "lock": "'lock ' || mod(n, 1000)", "scheduled_at": "now() + n * interval '1 minute'"},
    ),
    (50_000, {"task_name": "'busy'", "queue_name": "'busy ' || mod(n, 50)", "priority": "10"}),
    (200, {"task_name": "'holder'", "lock": "'held ' || n", "status": "'doing'", "worker_id": "1", "readiness": "1"}),
    (20_000, {"task_name": "'parked'", "lock": "'held ' || (1 + mod(n, 200))", "readiness": "2"}),
    (
        50_000,
        {
            "task_name": "'ended'",
            "lock": "'lock ' || mod(n, 1000)",
            "queueing_lock": "'queueing lock ' || mod(n, 100)",
            "status": ENDED,
            "worker_id": "1",
            "readiness": "1",
            "finished_at": "now() - n * interval '1 minute'",
        },
    ),
    (200, {"task_name": "'ready'"}),
    (50, {"task_name": "'due'", "lock": "'lock ' || n", "scheduled_at": "now() - interval '1 second'"}),
    (50, {"task_name": "'behind'", "lock": "'held ' || n"}),
    (50, {"task_name": "'running'", "queueing_lock": "'queueing lock ' || n", "status": "'doing'", "worker_id": "1"}),
    (20, {"task_name": "'stalled'", "queueing_lock": "'stalled ' || n", "status": "'doing'", "worker_id": "7"}),
    (20, {"task_name": "'orphan'", "lock": "'orphan ' || n", "readiness": "2"}),
]
"""How many jobs, and what they are, as SQL."""

TICKS = """
INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, job_id)
SELECT 'tick', n, n FROM generate_series(1, 5000) AS n
"""

ERRORS = (
    "INSERT INTO procrastinate_errors (job_id, attempt, exception_class, message, traceback) "
    "SELECT -n, 1, 'E', 'message', 'traceback' FROM generate_series(1, 20000) AS n"
)
"""Of jobs that are not there, so that nothing else reads them."""
UNIQUES = """
INSERT INTO procrastinate_uniques (key, job_id, until, taken_at)
SELECT 'key ' || n, n, (ARRAY['start', 'end'])[1 + mod(n, 2)], now() FROM generate_series(1, 50000) AS n
"""


def insert_statement(count: int, values: dict[str, str]) -> str:
    """Jobs in the queue ``default`` where nothing else is said; ``n`` counts them."""
    values = {"queue_name": "'default'"} | values
    columns, expressions = ", ".join(values), ", ".join(values.values())
    return f"INSERT INTO procrastinate_jobs ({columns}) SELECT {expressions} FROM generate_series(1, {count}) AS n"  # noqa: S608


def fill(url: str, *, analysed: bool) -> None:
    """Make a table with everything in the way, and with statistics or without."""
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        core.register_worker(connection)
        for count, values in CROWD:
            connection.exec_driver_sql(insert_statement(count, values))
        connection.exec_driver_sql(TICKS)
        connection.exec_driver_sql(UNIQUES)
        connection.exec_driver_sql(ERRORS)
        if analysed:
            connection.exec_driver_sql("VACUUM ANALYZE")


@pytest.fixture(scope="module", params=[False, True], ids=["no statistics", "statistics"])
def full_engine(request: pytest.FixtureRequest, databases: Databases) -> Iterator[sa.Engine]:
    """An engine on a full database that all tests of this module share: they roll back."""
    url = databases.create_migrated()
    fill(url, analysed=request.param)
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()
    databases.drop(url)


@pytest.fixture(params=["force_custom_plan", "force_generic_plan"])
def full(request: pytest.FixtureRequest, full_engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection to a full database, whose changes are rolled back."""
    with full_engine.connect() as connection:
        connection.exec_driver_sql(f"SET plan_cache_mode = {request.param}")
        connection.commit()
        yield connection
        connection.rollback()
        connection.exec_driver_sql("RESET plan_cache_mode")
        connection.commit()


SMALL_TABLES = {"procrastinate_workers", "procrastinate_arrivals", "procrastinate_paused_queues"}
"""Tables of a few rows, which may be read from end to end."""


def check(
    plans: Sequence[Plan], *, reads: set[str], buffers: int, thrown_away: int = 0, small: Collection[str] = ()
) -> None:
    """The plans read these indexes at least, no table from end to end that is not small, and little in all."""
    tables = set().union(*(plan.scanned_tables for plan in plans))
    assert tables <= {*SMALL_TABLES, *small}
    indexes = set().union(*(plan.indexes for plan in plans))
    assert reads <= indexes
    assert sum(plan.rows_thrown_away for plan in plans) <= thrown_away
    assert sum(plan.buffers for plan in plans) <= buffers


def running(connection: sa.Connection, task_name: str, limit: int) -> list[int]:
    """The ids of jobs that worker 1 runs."""
    statement = sa.text("SELECT id FROM procrastinate_jobs WHERE status = 'doing' AND task_name = :task LIMIT :limit")
    ids = list(connection.execute(statement, {"task": task_name, "limit": limit}).scalars())
    connection.rollback()
    assert len(ids) == limit
    return ids


@pytest.mark.parametrize("replace", [False, True])
def test_a_tick(full: sa.Connection, replace: bool) -> None:
    """A hundred of the five thousand that there are go with it. Those PostgreSQL 14 finds in the whole table, while it
    is so small and was never analysed.
    """
    tick: dict[str, Any] = {"periodic_id": "", "defer_timestamp": 10_000, "replace": replace}
    plans = explain(full, core.defer_tick, new_job(task_name="tick"), **tick)
    small = set[str]() if sum(plan.rows_thrown_away for plan in plans) == 0 else {"procrastinate_periodic_defers"}
    assert sum(len(plan.scanned_tables) for plan in plans) == len(small)
    check(plans, reads={TICK}, buffers=1500, thrown_away=4900 if small else 0, small=small)


@pytest.mark.parametrize("on_conflict", ["raise", "replace"])
def test_unique_jobs(full: sa.Connection, on_conflict: OnConflict) -> None:
    """One key is held, one is free again, and one is new."""
    keys = [UniqueKey(key=key, until="end") for key in ("key 7", "key 150000", "new")]
    for key in keys:
        job = UniqueJob(job=new_job(), unique=key)
        plans = explain(full, core.defer_unique_job, job, on_conflict=on_conflict)
        check(plans, reads={"procrastinate_uniques_pkey", PRIMARY_KEY}, buffers=120, thrown_away=1)


def test_a_sweep_of_unique_keys(full: sa.Connection) -> None:
    plans = explain(full, core.sweep_unique_keys, after=1000, limit=100)
    check(plans, reads={"procrastinate_uniques_job_id_idx", PRIMARY_KEY}, buffers=1500)


def test_the_progress_of_running_jobs(full: sa.Connection) -> None:
    statement = sa.text("SELECT id, attempts FROM procrastinate_jobs WHERE status = 'doing' AND worker_id = 1 LIMIT 50")
    reports = [
        core.NewReport(job_id=row.id, attempt=row.attempts + 1, kind=ReportKind.PROGRESS, content='{"done": 1}')
        for row in full.execute(statement).all()
    ]
    full.rollback()
    assert reports
    plans = explain(full, core.write_reports, reports, worker_id=1)
    check(plans, reads={"procrastinate_jobs_pkey"}, buffers=40 * len(reports))
    for read in (core.read_job_progress, core.read_job_logs, core.read_job_stack, core.request_stack):
        plans = explain(full, read, reports[0].job_id)
        small = {"procrastinate_job_reports", "procrastinate_workers"}
        check(plans, reads={"procrastinate_jobs_pkey"}, buffers=20, small=small)


def test_a_fetch_from_all_queues(full: sa.Connection) -> None:
    plans = explain(full, core.fetch_jobs, worker_id=1, limit=20)
    check(plans, reads={READY}, buffers=500)


def test_a_fetch_from_one_queue(full: sa.Connection) -> None:
    plans = explain(full, core.fetch_jobs, worker_id=1, limit=20, queues=["default"])
    check(plans, reads={READY_OF_QUEUE}, buffers=500)


PLACE = Rank(priority=0, id=1)


def test_a_fetch_from_all_queues_after_a_place(full: sa.Connection) -> None:
    plans = explain(full, core.fetch_jobs, worker_id=1, limit=20, after=PLACE)
    check(plans, reads={READY}, buffers=500)


def test_a_fetch_from_one_queue_after_a_place(full: sa.Connection) -> None:
    plans = explain(full, core.fetch_jobs, worker_id=1, limit=20, queues=["default"], after=PLACE)
    check(plans, reads={READY_OF_QUEUE}, buffers=500)


def entries_read(connection: sa.Connection) -> int:
    """How many entries of the indexes of ready jobs this transaction has come by, dead ones included."""
    read = "pg_stat_get_xact_tuples_returned('{}'::regclass)"
    return int(connection.exec_driver_sql(f"SELECT {read.format(READY)} + {read.format(READY_OF_QUEUE)}").scalar_one())


@pytest.mark.parametrize("queues", [None, ["default"]])
def test_a_fetch_after_a_place_does_not_walk_over_what_vacuum_cannot_clean(
    engine: sa.Engine, queues: list[str] | None
) -> None:
    """A look from the start does."""
    jobs, limit = 3000, 500
    with engine.connect() as connection, engine.connect() as reader:
        worker_id = core.register_worker(connection)
        core.defer_jobs(connection, [new_job() for _ in range(jobs + 40)])
        connection.commit()
        reader.execution_options(isolation_level="REPEATABLE READ")
        reader.exec_driver_sql("SELECT pg_current_xact_id()")
        for _ in range(jobs // limit):
            last = core.fetch_jobs(connection, worker_id=worker_id, limit=limit)[-1]
            connection.commit()
        place = Rank(priority=last.priority, id=last.id)
        read = [entries_read(connection)]
        for after in (None, place):
            assert len(core.fetch_jobs(connection, worker_id=worker_id, limit=20, queues=queues, after=after)) == 20
            read.append(entries_read(connection))
        reader.rollback()
    assert read[1] - read[0] > jobs
    assert read[2] - read[1] < 100


def test_a_fetch_from_several_queues(full: sa.Connection) -> None:
    plans = explain(full, core.fetch_jobs, worker_id=1, limit=20, queues=["default", "busy 1", "empty"])
    check(plans, reads={READY_OF_QUEUE}, buffers=1000)


BUSY = [f"busy {number}" for number in range(50)]


def test_a_fetch_behind_paused_queues_does_not_walk_over_their_jobs(full: sa.Connection) -> None:
    """Fifty queues with a thousand ready jobs each are paused, and come before all others."""
    plans = explain(full, core.fetch_jobs, worker_id=1, limit=20, paused=BUSY)
    check(plans, reads={READY_OF_QUEUE}, buffers=1000, thrown_away=60)
    assert [job.queue_name for job in core.fetch_jobs(full, worker_id=1, limit=20, paused=BUSY)] == ["default"] * 20


def test_a_promotion_while_a_queue_is_paused(full: sa.Connection) -> None:
    plans = explain(full, core.promote_jobs, paused=["busy 1"])
    check(
        plans,
        reads={UPCOMING, LOCK_HOLDER},
        buffers=6000,
        thrown_away=200,
        small={"procrastinate_openings", "procrastinate_windows"},
    )


def test_a_look_for_jobs_of_resumed_queues(full: sa.Connection) -> None:
    check(explain(full, core.unpark_resumed_jobs), reads={PARKED}, buffers=50, small={"procrastinate_paused_queues"})


@pytest.mark.parametrize("queue", ["empty", "busy 1"])
def test_the_locks_of_a_queue_that_is_paused(full: sa.Connection, queue: str) -> None:
    """It reads the 200 holders. However many jobs without a lock and a limit are ready there, it reads none of them."""
    plans = explain(full, core.free_locks_of_paused, queue=queue)
    check(plans, reads={LOCK_HOLDER, SLOTS}, buffers=300, thrown_away=200)


def test_a_fetch_from_a_queue_in_which_nothing_is_ready(full: sa.Connection) -> None:
    plans = explain(full, core.fetch_jobs, worker_id=1, limit=20, queues=["empty"])
    check(plans, reads={READY_OF_QUEUE}, buffers=10)


@pytest.mark.parametrize("queues", [None, ["empty"], ["empty", "busy 1"]])
def test_a_look_whether_there_is_work(full: sa.Connection, queues: list[str] | None) -> None:
    check(explain(full, core.has_work, queues=queues), reads=set(), buffers=50)


def test_a_look_for_what_needs_a_sweep(full: sa.Connection, full_engine: sa.Engine) -> None:
    """However many workflows have ended, it reads one of them. It reads what workers run."""
    small = {"procrastinate_workflows", "procrastinate_starts", "procrastinate_hold_offs"}
    with full_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        # It would read the rows that other tests have rolled back.
        other.exec_driver_sql(f"VACUUM {', '.join(sorted(small | SMALL_TABLES))}")
    check(explain(full, core.find_unswept), reads=set(), buffers=60, small=small)


def test_a_promotion(full: sa.Connection) -> None:
    plans = explain(full, core.promote_jobs)
    check(plans, reads={UPCOMING, LOCK_HOLDER}, buffers=5000, small={"procrastinate_openings", "procrastinate_windows"})


def test_a_promotion_that_is_left_to_another(full: sa.Connection, full_engine: sa.Engine) -> None:
    """It looks for the first due job, and decides on none."""
    with full_engine.connect() as other:
        assert core.promote_jobs(other, limit=1).had_turn
        plans = explain(full, core.promote_jobs)
        other.rollback()
    check(plans, reads={UPCOMING}, buffers=50, small={"procrastinate_openings", "procrastinate_windows"})


def test_a_look_at_the_other_workers(full: sa.Connection) -> None:
    full.exec_driver_sql("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    full.commit()
    judge = {"worker_id": 0, "heartbeat_interval": 10.0, "stalled_timeout": 30.0}
    (late,) = core.list_late_workers(full, **judge)  # type: ignore[arg-type]
    assert late.has_jobs
    plans = explain(full, core.list_late_workers, **judge)
    check(plans, reads={DOING}, buffers=700, thrown_away=1)  # rows of workers are three times as wide as in 0008
    full.exec_driver_sql("UPDATE procrastinate_workers SET last_heartbeat = now()")
    full.commit()


def test_a_promotion_probes_the_index_of_holders_once_a_lock(full: sa.Connection) -> None:
    """While an old transaction is open, each probe passes the entries of all former holders."""
    for plan in explain(full, core.promote_jobs):
        assert [node.get("Index Name") for node in plan.nodes()].count(LOCK_HOLDER) == 1


def test_the_outcomes_of_jobs(full: sa.Connection) -> None:
    ids = running(full, "running", 20) + running(full, "holder", 20)
    outcomes = [FinishedJob(id=id_, attempts=0, status=Status.SUCCEEDED, delete=id_ % 2 == 0) for id_ in ids]
    check(explain(full, core.finish_jobs, outcomes, worker_id=1), reads={PRIMARY_KEY}, buffers=2000)


def test_the_outcome_of_a_job_that_its_task_commits(full: sa.Connection) -> None:
    (job_id,) = running(full, "running", 1)
    finished = FinishedJob(id=job_id, attempts=0, status=Status.SUCCEEDED)
    check(explain(full, core.complete_job, finished, worker_id=1), reads={PRIMARY_KEY}, buffers=100)


def test_outcomes_that_leave_something_behind(full: sa.Connection) -> None:
    ids = running(full, "running", 20) + running(full, "holder", 20)
    error = NewError(exception_class="builtins.ValueError", message="m", traceback="t")
    outcomes = [
        FinishedJob(id=id_, attempts=0, status=Status.SUCCEEDED, result="1", error=error, announce=True) for id_ in ids
    ]
    plans = explain(full, core.finish_jobs, outcomes, worker_id=1)
    check(plans, reads={PRIMARY_KEY}, buffers=3000)


def test_retries_that_leave_an_error_behind(full: sa.Connection) -> None:
    error = NewError(exception_class="builtins.ValueError", message="m", traceback="t")
    retries = [JobRetry(id=id_, attempts=0, error=error) for id_ in running(full, "running", 20)]
    check(explain(full, core.retry_jobs, retries, worker_id=1), reads={PRIMARY_KEY, QUEUEING_LOCK}, buffers=2000)


def test_a_result(full: sa.Connection) -> None:
    job_id = running(full, "running", 1)[0]
    full.exec_driver_sql("SET enable_seqscan = off")  # the table of results is empty
    full.commit()
    reads = {
        PRIMARY_KEY,
        *(f"procrastinate_{name}" for name in ("results_pkey", "errors_job_id_idx", "events_job_id_idx")),
    }
    check(explain(full, core.get_result, job_id), reads=reads, buffers=100)
    check(explain(full, core.get_result, job_id, newest_errors=20), reads=reads, buffers=100)
    check(explain(full, core.get_progress, job_id), reads={PRIMARY_KEY}, buffers=20)
    full.exec_driver_sql("RESET enable_seqscan")
    full.commit()


def test_retries(full: sa.Connection) -> None:
    retries = [JobRetry(id=id_, attempts=0) for id_ in running(full, "running", 20)]
    check(explain(full, core.retry_jobs, retries, worker_id=1), reads={PRIMARY_KEY, QUEUEING_LOCK}, buffers=2000)


def test_releasing(full: sa.Connection) -> None:
    fetched = [FetchedJob(id=id_, attempts=0) for id_ in running(full, "running", 20)]
    check(explain(full, core.release_jobs, fetched, worker_id=1), reads={PRIMARY_KEY, QUEUEING_LOCK}, buffers=2000)


def test_a_list_of_jobs_that_their_worker_does_not_know_of(full: sa.Connection) -> None:
    plans = explain(full, core.list_unknown_jobs, worker_id=1, known_ids=running(full, "running", 20))
    check(plans, reads={DOING}, buffers=3000, thrown_away=300)


def test_a_rescue(full: sa.Connection) -> None:
    """It looks through the running jobs, and through nothing else."""
    plans = explain(full, core.rescue_jobs, max_rescues=3)
    check(plans, reads={DOING, QUEUEING_LOCK}, buffers=3000, thrown_away=300)


def test_a_sweep(full: sa.Connection) -> None:
    plans = explain(full, core.sweep_parked_jobs)
    check(plans, reads={PARKED, LOCK_HOLDER}, buffers=5000, small={"procrastinate_paused_queues"})


def test_deleting_finished_jobs(full: sa.Connection) -> None:
    plans = explain(
        full,
        core.delete_finished_jobs,
        older_than=datetime.timedelta(minutes=49_900),
        statuses=[Status.SUCCEEDED, Status.FAILED],
    )
    check(plans, reads={FINISHED}, buffers=1000)


def test_deleting_many_finished_jobs(full: sa.Connection) -> None:
    plans = explain(
        full, core.delete_finished_jobs, older_than=datetime.timedelta(hours=1), statuses=[Status.SUCCEEDED], limit=100
    )
    check(plans, reads={FINISHED}, buffers=1600)


ENDED_OR_NOT = {"older_than": datetime.timedelta(hours=1), "limit": 100}


@pytest.mark.parametrize("statuses", [[Status.SUCCEEDED], [Status.SUCCEEDED, Status.FAILED]])
def test_a_deletion_goes_on_along_the_index(full: sa.Connection, statuses: list[Status]) -> None:
    """It starts at its place, and sorts nothing unless PostgreSQL believes that an unknown table is small."""
    rows = full.exec_driver_sql("SELECT reltuples FROM pg_class WHERE relname = 'procrastinate_jobs'").scalar_one()
    full.rollback()
    place = core.delete_finished_part(full, statuses=statuses, **ENDED_OR_NOT).next_place  # type: ignore[arg-type]
    full.rollback()
    for after in (None, place):
        plans = explain(full, core.delete_finished_part, statuses=statuses, after=after, **ENDED_OR_NOT)  # type: ignore[arg-type]
        check(plans, reads={FINISHED}, buffers=2000)
        read = [node["Actual Rows"] for node in plans[0].nodes() if node.get("Index Name") == FINISHED]
        assert rows < 0 or sum(read) == 100


def test_a_deletion_after_a_place_does_not_walk_over_what_vacuum_cannot_clean(engine: sa.Engine) -> None:
    """A deletion from the start does."""
    insert = insert_statement(
        3000, {"task_name": "'t'", "status": "'failed'", "finished_at": "now() - n * interval '1 day'"}
    )
    read = f"SELECT pg_stat_get_xact_tuples_returned('{FINISHED}'::regclass)"
    ended: dict[str, Any] = {"older_than": datetime.timedelta(hours=1), "statuses": [Status.FAILED]}
    with engine.connect() as connection, engine.connect() as reader:
        connection.exec_driver_sql(insert)
        connection.commit()
        reader.execution_options(isolation_level="REPEATABLE READ")
        reader.exec_driver_sql("SELECT pg_current_xact_id()")
        place = None
        for _ in range(28):
            place = core.delete_finished_part(connection, limit=100, after=place, **ended).next_place
            connection.commit()
        reads = [connection.exec_driver_sql(read).scalar_one()]
        for after in (place, None):
            assert core.delete_finished_part(connection, limit=20, after=after, **ended).count == 20
            reads.append(connection.exec_driver_sql(read).scalar_one())
        reader.rollback()
    assert reads[1] - reads[0] < 200
    assert reads[2] - reads[1] > 2000


def test_a_list_of_ended_jobs_reads_the_index_of_ended_jobs(full: sa.Connection) -> None:
    plans = explain(full, core.count_by_queue, core.JobFilter(status=Status.ABORTED))
    check(plans, reads={FINISHED}, buffers=50)


def test_a_deletion_from_a_queue_without_ended_jobs_looks_at_a_bounded_number(full: sa.Connection) -> None:
    """It sorts nothing unless PostgreSQL believes that an unknown table is small."""
    rows = full.exec_driver_sql("SELECT reltuples FROM pg_class WHERE relname = 'procrastinate_jobs'").scalar_one()
    full.rollback()
    place = core.delete_finished_part(
        full, older_than=datetime.timedelta(0), statuses=[Status.SUCCEEDED], queue_name="none", limit=10
    )
    full.rollback()
    assert place.count == 0
    assert place.next_place is not None
    plans = explain(
        full,
        core.delete_finished_part,
        older_than=datetime.timedelta(0),
        statuses=[Status.SUCCEEDED],
        queue_name="none",
        limit=10,
        after=place.next_place,
    )
    check(plans, reads={FINISHED}, buffers=2000)
    (read,) = (node["Actual Rows"] for node in plans[0].nodes() if node.get("Index Name") == FINISHED)
    assert rows < 0 or read == 10 * 20


def test_the_first_waiting_jobs_are_read_along_their_indexes(full: sa.Connection) -> None:
    plans = explain(full, lambda connection: connection.execute(first_waiting(20)))
    check(plans, reads={READY, UPCOMING, PARKED}, buffers=300)


@pytest.fixture(scope="module")
def mostly_ended(databases: Databases) -> Iterator[sa.Connection]:
    """Connect to a database with few waiting jobs of each state, after many that have ended."""
    url = databases.create_migrated()
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        ended = {"task_name": "'ended'", "status": ENDED, "finished_at": "now() - n * interval '1 minute'"}
        connection.exec_driver_sql(insert_statement(100_000, ended))
        for values in (
            {"task_name": "'ready'"},
            {"task_name": "'later'", "scheduled_at": "now() + n * interval '1 minute'"},
            {"task_name": "'parked'", "lock": "'l'", "readiness": "2"},
        ):
            connection.exec_driver_sql(insert_statement(20, values))
        connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()
    databases.drop(url)


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (core.list_jobs, {}),
        (core.list_jobs, {"limit": 10}),
        (core.count_by_queue, {}),
        (core.count_by_task, {}),
        (core.count_by_lock, {}),
    ],
)
def test_what_is_asked_of_the_waiting_jobs_does_not_read_those_that_have_ended(
    mostly_ended: sa.Connection,
    operation: Callable[Concatenate[sa.Connection, ...], Any],
    arguments: dict[str, Any],
) -> None:
    plans = explain(mostly_ended, operation, core.JobFilter(status=Status.TODO), **arguments)
    check(plans, reads={READY, UPCOMING, PARKED}, buffers=200, thrown_away=60)


def test_the_waiting_jobs_of_each_state_are_listed(mostly_ended: sa.Connection) -> None:
    listed = core.list_jobs(mostly_ended, core.JobFilter(status=Status.TODO))
    mostly_ended.rollback()
    assert [job.id for job in listed] == list(range(100_001, 100_061))
    rest = core.list_jobs(mostly_ended, core.JobFilter(status=Status.TODO), limit=10, after_id=100_050)
    mostly_ended.rollback()
    assert [job.id for job in rest] == list(range(100_051, 100_061))


def test_what_is_asked_of_one_job(full: sa.Connection) -> None:
    (job_id,) = running(full, "running", 1)
    for plans in (
        explain(full, core.get_job_status, job_id),
        explain(full, core.cancel_job, job_id, abort=True),
        explain(full, core.finish_job_by_id, job_id, status=Status.FAILED, delete=False),
    ):
        check(plans, reads={PRIMARY_KEY}, buffers=60, thrown_away=1)


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (core.list_jobs_to_abort, {}),
        (core.list_jobs_to_abort, {"worker_id": 1}),
        (core.list_stalled_jobs, {"seconds_since_heartbeat": 30}),
        (core.list_jobs_started_before, {"seconds": 30}),
    ],
)
def test_what_is_asked_of_the_running_jobs(
    full: sa.Connection, operation: Callable[Concatenate[sa.Connection, ...], Any], arguments: dict[str, Any]
) -> None:
    plans = explain(full, operation, **arguments)
    check(plans, reads={DOING}, buffers=2000, thrown_away=300)


def test_the_queueing_locks_that_are_taken(full: sa.Connection) -> None:
    plans = explain(full, core.find_taken_queueing_lock, ["queueing lock 1", "free"])
    check(plans, reads={QUEUEING_LOCK}, buffers=20)


@pytest.mark.parametrize("operation", [defer._insert_or_find, core.defer_jobs_or_replace], ids=["skip", "replace"])
@pytest.mark.parametrize("number", [1, 50])
def test_a_defer_under_queueing_locks_that_are_taken(full: sa.Connection, operation: Any, number: int) -> None:
    new_jobs = [new_job(queueing_lock=f"stalled {n}") for n in range(number)]
    core.defer_jobs(full, new_jobs)
    full.commit()
    plans = explain(full, operation, new_jobs)
    full.execute(sa.text("DELETE FROM procrastinate_jobs WHERE status = 'todo' AND queueing_lock IS NOT NULL"))
    full.commit()
    assert [QUEUEING_LOCK] in [node.get("Conflict Arbiter Indexes") for plan in plans for node in plan.nodes()]
    reads = {QUEUEING_LOCK} if operation is defer._insert_or_find else set()
    check(plans, reads=reads, buffers=200 + 60 * number)


def scans(connection: sa.Connection) -> dict[str, int]:
    """How often this transaction has read each table from end to end, triggers included."""
    statement = sa.text("SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE relname LIKE 'procrastinate_%'")
    return {table: number for table, number in connection.execute(statement) if table not in SMALL_TABLES}


def test_no_trigger_reads_a_table_from_end_to_end(full: sa.Connection) -> None:
    holders = running(full, "holder", 40)
    before = scans(full)
    core.defer_jobs(full, [new_job(lock=f"held {number}") for number in range(100)])
    core.fetch_jobs(full, worker_id=1, limit=50)
    core.promote_jobs(full)
    outcomes = [FinishedJob(id=id_, attempts=0, status=Status.FAILED, delete=id_ % 2 == 0) for id_ in holders]
    core.finish_jobs(full, outcomes[:20], worker_id=1)
    core.retry_jobs(full, [JobRetry(id=id_, attempts=0) for id_ in holders[20:30]], worker_id=1)
    core.release_jobs(full, [FetchedJob(id=id_, attempts=0) for id_ in holders[30:]], worker_id=1)
    core.delete_finished_jobs(full, older_than=datetime.timedelta(hours=1), statuses=[Status.SUCCEEDED], limit=100)
    core.rescue_jobs(full, max_rescues=3)
    core.sweep_parked_jobs(full)
    after = scans(full)
    full.rollback()
    for asked in ("procrastinate_openings", "procrastinate_windows"):  # a promotion asks whether there are any
        del before[asked], after[asked]
    assert after == before


SLOTS, LINE = "procrastinate_jobs_slots_idx", "procrastinate_jobs_line_idx"


@pytest.mark.parametrize(
    "numbers", [{"concurrency": 1}, {"total": 3}, {"fair": True}], ids=["by key", "over all keys", "fair"]
)
def test_an_admission(full: sa.Connection, numbers: dict[str, Any]) -> None:
    """It counts slots and reads lines by their own indexes, among many jobs that are ready or in other lines."""
    core.define_limits(full, [core.LimitDefinition(name="l", **numbers)])
    keys = [str(number) for number in range(200)]
    core.defer_jobs(full, [new_job(limit_name="l", limit_key=key) for key in keys for _ in range(20)])
    full.exec_driver_sql("DELETE FROM procrastinate_openings WHERE limit_key::int > 5")
    plans = explain(full, core.admit_jobs)
    small = {"procrastinate_openings", "procrastinate_limits", "procrastinate_windows", "procrastinate_hold_offs"}
    check(plans, reads={SLOTS, LINE}, buffers=8000, small={*small, "procrastinate_turns"})


def entries_of(connection: sa.Connection, *indexes: str) -> list[int]:
    """How many entries of these indexes this transaction has come by, dead ones included."""
    read = "SELECT pg_stat_get_xact_tuples_returned(CAST(:index AS regclass))"
    return [connection.execute(sa.text(read), {"index": index}).scalar_one() for index in indexes]


@pytest.mark.parametrize("keys", [1, 20])
@pytest.mark.parametrize("numbers", [{"total": 20}, {"fair": True}], ids=["over all keys", "fair"])
def test_an_admission_walks_over_what_vacuum_cannot_clean_once(
    engine: sa.Engine, numbers: dict[str, Any], keys: int
) -> None:
    """A job leaves one entry in the index of the lines, and two in that of the slots: it waits, is ready and runs."""
    ended, slots = 2000, 20
    with engine.connect() as connection, engine.connect() as reader:
        worker_id = core.register_worker(connection)
        connection.exec_driver_sql("UPDATE procrastinate_workers SET concurrency = 20, queues = '{default}'")
        core.define_limits(connection, [core.LimitDefinition(name="l", **numbers)])
        jobs = [new_job(limit_name="l", limit_key=f"key {number % keys}") for number in range(ended + 10 * slots)]
        core.defer_jobs(connection, jobs)
        connection.commit()
        reader.execution_options(isolation_level="REPEATABLE READ")
        reader.exec_driver_sql("SELECT pg_current_xact_id()")
        for _ in range(ended // slots):
            assert core.admit_jobs(connection).admitted == slots
            fetched = core.fetch_jobs(connection, worker_id=worker_id, limit=slots)
            finished = [FinishedJob(id=job.id, attempts=0, status=Status.SUCCEEDED) for job in fetched]
            core.finish_jobs(connection, finished, worker_id=worker_id)
            connection.commit()
        before = entries_of(connection, LINE, SLOTS)
        assert core.admit_jobs(connection).admitted == slots
        line, held = (now - then for now, then in zip(entries_of(connection, LINE, SLOTS), before, strict=True))
        reader.rollback()
    assert ended <= line <= ended + 10 * slots
    assert 2 * ended <= held <= 2 * ended + 10 * slots


def test_an_admission_by_rates(full: sa.Connection) -> None:
    """It reads the starts of its keys alone, among those of many other keys."""
    core.define_limits(full, [core.LimitDefinition(name="l", rates=(core.RateTerms(2, 3600.0),))])
    full.exec_driver_sql(
        "INSERT INTO procrastinate_starts (limit_name, limit_key, at) "
        "SELECT 'l', mod(number, 1000), now() FROM generate_series(1, 50000) AS one (number)"
    )
    full.exec_driver_sql("ANALYZE procrastinate_starts")
    core.defer_jobs(full, [new_job(limit_name="l", limit_key=str(key)) for key in range(5) for _ in range(20)])
    plans = explain(full, core.admit_jobs)
    small = {"procrastinate_openings", "procrastinate_limits", "procrastinate_windows", "procrastinate_hold_offs"}
    check(plans, reads={SLOTS, LINE, "procrastinate_starts_key_idx"}, buffers=8000, small=small)


@pytest.mark.parametrize("numbers", [{"concurrency": 3}, {"total": 3}], ids=["by key", "over all keys"])
def test_an_admission_among_many_hold_offs_and_heavy_jobs(full: sa.Connection, numbers: dict[str, int]) -> None:
    """It reads the hold-offs of its keys alone, and the weight of one job of each key."""
    core.define_limits(full, [core.LimitDefinition(name="l", **numbers)])
    full.exec_driver_sql(
        "INSERT INTO procrastinate_hold_offs (limit_name, limit_key, until) "
        "SELECT 'l', number, now() + interval '1 hour' FROM generate_series(3, 50000) AS one (number)"
    )
    full.exec_driver_sql("ANALYZE procrastinate_hold_offs")
    weights = (2, 1, None)
    heavy = [new_job(limit_name="l", limit_key=str(key), limit_weight=weights[key % 3]) for key in range(50)]
    core.defer_jobs(full, heavy * 20)
    full.exec_driver_sql("DELETE FROM procrastinate_openings WHERE limit_key::int > 5")
    plans = explain(full, core.admit_jobs)
    small = {"procrastinate_openings", "procrastinate_limits", "procrastinate_windows"}
    check(plans, reads={SLOTS, LINE, "procrastinate_hold_offs_pkey"}, buffers=8000, small=small)


@pytest.mark.parametrize("numbers", [{"concurrency": 1}, {"fair": True}], ids=["by key", "fair"])
def test_a_sweep_of_the_lines(full: sa.Connection, numbers: dict[str, Any]) -> None:
    core.define_limits(full, [core.LimitDefinition(name="l", **numbers)])
    core.defer_jobs(full, [new_job(limit_name="l", limit_key=str(key)) for key in range(200) for _ in range(20)])
    plans = explain(full, core.sweep_lines)
    check(
        plans,
        reads={SLOTS, LINE},
        buffers=8000,
        small={"procrastinate_limits", "procrastinate_windows", "procrastinate_hold_offs"},
    )


def test_a_sweep_of_the_workflows(full: sa.Connection) -> None:
    parent_id = core.defer_job(full, new_job())
    full.exec_driver_sql(
        "INSERT INTO procrastinate_workflows (id, root_id, kind, name, if_failed, finished_at) "
        "SELECT 1000000 + number, 1000000 + number, 'workflow', 'w', 'cancel', "
        "CASE WHEN mod(number, 2) = 0 THEN now() END "
        "FROM generate_series(1, 50000) AS one (number)"
    )
    full.exec_driver_sql(
        "INSERT INTO procrastinate_jobs (task_name, queue_name, args, workflow_id, readiness, scheduled_at) "
        "SELECT 't', 'default', '{}', 1000000 + number, 5, 'infinity' FROM generate_series(1, 2000) AS one (number)"
    )
    full.exec_driver_sql(
        "INSERT INTO procrastinate_dependencies (job_id, parent_id, rule) "
        "SELECT id, %(parent)s, 0 FROM procrastinate_jobs WHERE workflow_id > 1000000",
        {"parent": parent_id},
    )
    plans = explain(full, core.sweep_workflows)
    check(
        plans,
        reads={"procrastinate_jobs_steps_idx", "procrastinate_dependencies_open_idx", "procrastinate_workflows_pkey"},
        buffers=8000,
        thrown_away=300,  # a plan that is made without the numbers; 100 with them
    )
