"""An app that reads from a streaming replica, which falls behind, stops and comes back."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate import core, exceptions, replicas
from procrastinate.core import inspection
from procrastinate.core.operation_marks import is_allowed_to_lag
from procrastinate.core.replicas import measure_lag
from procrastinate.dashboard import Access
from procrastinate.dashboard.dashboard import Dashboard
from procrastinate.dashboard.messages import Request
from tests import database
from tests.faults.cluster import Cluster

_READER = "reader"
_HOUR = 3600.0
_SMALLEST = 1e-6


class Pair:
    """A primary with a replica. The replica can be paused, so that it falls behind."""

    def __init__(self, primary: Cluster, replica: Cluster) -> None:
        self.primary, self.replica = primary, replica

    def commit(self) -> None:
        """Commit something that changes no table."""
        self.primary.execute("SELECT pg_logical_emit_message(true, 'test', 'wakes the replay')")

    def pause(self) -> None:
        """Let the replica receive, and show nothing new."""
        self.catch_up()
        self.replica.execute("SELECT pg_wal_replay_pause()")
        while self.replica.execute("SELECT pg_get_wal_replay_pause_state()") != "paused":
            self.commit()

    def go_on(self) -> None:
        """End the pause."""
        self.replica.execute("SELECT pg_wal_replay_resume()")
        self.catch_up()

    def catch_up(self) -> None:
        """Wait until the replica shows all that is committed."""
        end = self.primary.execute("SELECT pg_current_wal_lsn()::text")
        while not self.replica.execute("SELECT pg_last_wal_replay_lsn() >= CAST(:end AS pg_lsn)", end=end):
            pass


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("replica")
    primary = Cluster(directory / "primary")
    primary.initialise()
    primary.start()
    database.migrate(database.url_text(primary.url))
    primary.execute(f"CREATE ROLE {_READER} LOGIN")
    primary.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {_READER}")
    replica = primary.make_standby(directory / "replica")
    primary.execute("ALTER SYSTEM RESET synchronous_standby_names")
    primary.execute("SELECT pg_reload_conf()")
    replica.execute("ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'")
    replica.execute("SELECT pg_reload_conf()")
    pair = Pair(primary, replica)
    pair.commit()  # a standby that has replayed no commit cannot tell how far it is behind
    pair.catch_up()
    yield pair
    replica.remove()
    primary.remove()


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "_MEASURE_EVERY", 0.0)
    monkeypatch.setattr(replicas, "_TRY_AGAIN_AFTER", 0.0)


@pytest.fixture
def paused(pair: Pair) -> Iterator[Pair]:
    pair.pause()
    yield pair
    pair.go_on()


@pytest.fixture
def stopped(pair: Pair) -> Iterator[Pair]:
    pair.catch_up()
    pair.replica.stop()
    yield pair
    pair.replica.start()


def _url(cluster: Cluster, **changes: Any) -> str:
    return database.url_text(cluster.url.set(**changes))


def _app(pair: Pair, **options: Any) -> procrastinate.App:
    replica = procrastinate.ReadReplica(_url(pair.replica, username=_READER), **options)
    app = procrastinate.App(connector=_url(pair.primary), read_connector=replica)
    app.task(_note, name="note")
    return app


def _note() -> None:
    pass


def _defer(app: procrastinate.App) -> int:
    return app.configure_task("note").defer()


def _sees(app: procrastinate.App, job_id: int) -> bool:
    return bool(app.job_manager.list_jobs(id=job_id))


def test_lists_and_pages_are_read_from_the_replica(paused: Pair) -> None:
    app = _app(paused, max_lag=_HOUR)
    with app.open():
        job_id = _defer(app)
        assert app.job_manager.list_jobs(id=job_id) == []
        assert app.inspect.job(job_id) is None
        assert [page.id for page in app.inspect.jobs().jobs if page.id == job_id] == []


async def test_lists_and_pages_are_read_from_the_replica_in_async_code(paused: Pair) -> None:
    app = _app(paused, max_lag=_HOUR)
    async with app.open_async():
        job_id = await app.configure_task("note").defer_async()
        assert await app.job_manager.list_jobs_async(id=job_id) == []
        assert await app.inspect.job_async(job_id) is None
        assert await app.inspect.on_primary.job_async(job_id) is not None


def test_everything_else_is_read_from_the_primary(paused: Pair) -> None:
    app = _app(paused, max_lag=_HOUR)
    with app.open():
        job_id = _defer(app)
        assert app.job_manager.get_job_status(job_id).value == "todo"
        assert app.inspect.on_primary.job(job_id) is not None
        assert app.inspect.explain(job_id).state == inspection.JobState.READY
        assert app.job_manager.cancel_job_by_id(job_id)


def test_a_list_on_a_connection_of_the_user_is_read_there(paused: Pair) -> None:
    app = _app(paused, max_lag=_HOUR)
    engine = sa.create_engine(paused.primary.url, poolclass=sa.NullPool)
    with app.open(), engine.connect() as connection:
        job_id = app.configure_task("note", connection=connection).defer()
        assert [job.id for job in app.job_manager.list_jobs(id=job_id, connection=connection)] == [job_id]


async def test_workers_do_not_need_the_replica(stopped: Pair) -> None:
    app = _app(stopped, fall_back=False)
    async with app.open_async():
        job_id = await app.configure_task("note").defer_async()
        await app.run_worker_async(wait=False, install_signal_handlers=False)
        assert (await app.job_manager.get_job_status_async(job_id)).value == "succeeded"


def test_the_primary_answers_while_the_replica_is_behind(paused: Pair, caplog: pytest.LogCaptureFixture) -> None:
    app = _app(paused, max_lag=_SMALLEST)
    with app.open(), caplog.at_level(logging.INFO, "procrastinate"):
        job_id = _defer(app)
        _wait_until_received(paused)
        assert _sees(app, job_id)
        assert _sees(app, job_id)
        paused.go_on()
        while _actions(caplog)[-1] != "replica_back":
            assert _sees(app, job_id)
    assert _actions(caplog) == ["replica_out", "replica_back"]


def test_a_read_fails_while_the_replica_is_behind_if_the_primary_must_not_answer(paused: Pair) -> None:
    app = _app(paused, max_lag=_SMALLEST, fall_back=False)
    with app.open():
        _defer(app)
        _wait_until_received(paused)
        with pytest.raises(exceptions.ReplicaBehind, match=r"\d (ms|s|min) behind the primary"):
            app.inspect.overview()


def test_the_primary_answers_while_the_replica_is_away(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    app = _app(pair, max_lag=_HOUR)
    with app.open(), caplog.at_level(logging.INFO, "procrastinate"):
        job_id = _defer(app)
        pair.catch_up()
        assert _sees(app, job_id)
        pair.replica.stop()
        assert _sees(app, job_id)
        assert _sees(app, job_id)
        pair.replica.start()
        assert _sees(app, job_id)
    assert _actions(caplog) == ["replica_out", "replica_back"]


def test_a_read_fails_while_the_replica_is_away_if_the_primary_must_not_answer(stopped: Pair) -> None:
    app = _app(stopped, fall_back=False)
    with app.open():
        for _ in range(2):
            with pytest.raises(exceptions.DatabaseUnavailable):
                app.job_manager.list_queues()


def test_a_replica_of_any_age_is_read_without_a_question_for_its_lag(
    paused: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "measure_lag", _broken)
    app = _app(paused, max_lag=None)
    with app.open():
        job_id = _defer(app)
        _wait_until_received(paused)
        assert not _sees(app, job_id)


def _broken(_: sa.Connection) -> float:
    raise exceptions.ConnectorException("This server does not tell")


def test_a_read_that_the_replica_refuses_is_answered_by_the_primary_with_one_warning(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    app = _app(pair, max_lag=_HOUR)
    pair.primary.execute("REVOKE SELECT ON procrastinate_jobs FROM reader")
    pair.catch_up()
    with app.open(), caplog.at_level(logging.INFO, "procrastinate"):
        job_id = _defer(app)
        assert [_sees(app, job_id), _sees(app, job_id)] == [True, True]
    pair.primary.execute("GRANT SELECT ON procrastinate_jobs TO reader")
    pair.catch_up()
    assert _actions(caplog) == ["replica_refused"]


def test_a_replica_that_could_not_be_reached_is_left_alone_for_a_while(
    stopped: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "_TRY_AGAIN_AFTER", _HOUR)
    app = _app(stopped)
    with app.open():
        job_id = _defer(app)
        assert _sees(app, job_id)
        with _counted(app) as tries:
            assert _sees(app, job_id)
    assert tries == []


@contextlib.contextmanager
def _counted(app: procrastinate.App) -> Iterator[list[Callable[..., Any]]]:
    """The operations that the replica is asked to run."""
    connector = app.connector
    assert isinstance(connector, replicas.ReplicatedConnector)
    asked: list[Callable[..., Any]] = []
    before = connector.replica.run

    def run(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        asked.append(operation)
        return before(operation, *args, **kwargs)

    connector.replica.run = run  # type: ignore[method-assign]
    yield asked


def test_the_replica_answers_while_the_primary_is_away(pair: Pair) -> None:
    app = _app(pair, max_lag=_HOUR)
    with app.open():
        job_id = _defer(app)
        pair.catch_up()
        pair.primary.stop()
        try:
            assert _sees(app, job_id)
            with pytest.raises(exceptions.DatabaseUnavailable):
                _defer(app)
        finally:
            pair.primary.start()


def test_a_standby_without_its_primary_counts_from_its_last_commit(pair: Pair) -> None:
    pair.catch_up()
    engine = sa.create_engine(pair.replica.url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        while measure_lag(connection) != 0:  # it connects again some time after a restart of the primary
            pass
        pair.primary.stop()
        try:
            while connection.execute(sa.text("SELECT EXISTS (SELECT FROM pg_stat_wal_receiver)")).scalar_one():
                pass
            lag = measure_lag(connection)
        finally:
            pair.primary.start()
    assert lag is not None
    assert lag > 0


def test_a_page_after_an_action_is_read_from_the_primary(paused: Pair) -> None:
    app = _app(paused, max_lag=_HOUR)
    dashboard = Dashboard(app)
    with app.open():
        path = f"jobs/{_defer(app)}"
        answers = {
            query: dashboard.handle(Request(method="GET", path=path, query=query, access=Access.everything())).status
            for query in ("", "done=retry")
        }
    assert answers == {"": 404, "done=retry": 200}


def test_each_operation_that_may_lag_runs_on_a_replica_with_a_role_that_may_only_read(pair: Pair) -> None:
    arguments = {
        "job_id": 1,
        "workflow_id": 1,
        "name": "limit",
        "key": "key",
        "search": inspection.JobSearch(),
        "job_filter": core.JobFilter(),
    }
    pair.catch_up()
    app = procrastinate.App(connector=_url(pair.replica, username=_READER))
    with app.open():
        for operation in _OPERATIONS:
            needed = [
                arguments[name]
                for name, one in inspect.signature(operation, follow_wrapped=True).parameters.items()
                if one.default is one.empty and name in arguments
            ]
            app.connector.get_sync_connector().run(operation, *needed)


_OPERATIONS = [
    operation
    for module in (core, inspection)
    for operation in (getattr(module, name) for name in module.__all__)
    if is_allowed_to_lag(operation)
]


def test_no_operation_that_may_lag_says_why_a_job_waits_or_waits_for_it() -> None:
    decides = (core.get_job_status, inspection.explain_job, inspection.load_system, inspection.load_waiting_calls)
    assert [one for one in decides if is_allowed_to_lag(one)] == []
    assert len(_OPERATIONS) > 15


def _wait_until_received(pair: Pair) -> None:
    """Wait until the replica has more than it shows."""
    while not pair.replica.execute("SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"):
        pass


def _actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = (getattr(record, "action", "") for record in caplog.records)
    return [action for action in found if action.startswith("replica_")]
