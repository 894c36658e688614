"""Tasks with ``keep_logs=True`` keep what they log, and the worker writes it once a second."""

from __future__ import annotations

import asyncio
import json
import logging
import threading

import pytest

from procrastinate.app import App
from procrastinate.results import KeptLog
from procrastinate.testing import InMemoryConnector, Jobs
from procrastinate.worker.run.kept_log import MOST_BYTES, MOST_LINES, LogOfRun, kept
from tests.worker.running import Queue, Workers, until

logger = logging.getLogger("shop.orders")


def texts(log: KeptLog) -> list[str]:
    """Return the texts of a log's lines."""
    return [line.text for line in log.lines]


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    """Let the loggers pass what is of level INFO."""
    caplog.set_level(logging.INFO)


async def test_what_a_job_logs_is_kept_while_it_runs(app: App, workers: Workers, queue: Queue) -> None:
    may_end = threading.Event()

    @app.task(name="sync", keep_logs=True)
    def sync(number: int) -> None:
        logger.info("order %s of a sync task", number)
        thread = threading.Thread(target=logger.info, args=("from another context",))
        thread.start()
        thread.join()
        may_end.wait(30)
        logger.warning("the last line")

    @app.task(name="of_loop", keep_logs=True)
    async def of_loop() -> None:
        logger.debug("below the level")
        await asyncio.create_task(asyncio.to_thread(logger.info, "from a thread of an async task"))
        await asyncio.to_thread(may_end.wait, 30)

    @app.task(name="silent")
    def silent() -> None:
        logger.info("not kept")

    manager = app.job_manager
    ids = [await sync.defer_async(number=7), await of_loop.defer_async(), await silent.defer_async()]
    workers.start(concurrency=3)
    await until(lambda: manager.get_logs(ids[0]) and manager.get_logs(ids[1]))
    (running,) = await manager.get_logs_async(ids[0])
    assert (running.attempt, texts(running), running.left_out) == (1, ["order 7 of a sync task"], 0)
    assert (running.lines[0].level, running.lines[0].logger) == ("INFO", "shop.orders")
    (of_loop_log,) = manager.get_logs(ids[1])
    assert texts(of_loop_log) == ["from a thread of an async task"]
    may_end.set()
    await queue.succeeded(*ids)
    await until(lambda: len(manager.get_logs(ids[0])[0].lines) == 2)
    assert manager.get_logs(ids[2]) == ()
    assert not queue.sql("SELECT count(*) FROM procrastinate_job_reports WHERE job_id = :id", id=ids[2])


async def test_the_last_lines_of_a_run_that_is_retried_are_kept(app: App, workers: Workers) -> None:
    @app.task(retry=1, keep_logs=True)
    def fails() -> None:
        try:
            raise ValueError("no\0t so postgresql://ada:hidden@db/shop")
        except ValueError:
            logger.exception("It failed")
            raise

    job_id = await fails.defer_async()
    await workers.start(wait=False).ended()
    second, first = await app.inspect.logs_async(job_id) or ()
    assert (second.attempt, first.attempt) == (2, 1)
    (text,) = texts(first)
    assert text.startswith("It failed\nTraceback")
    assert text.endswith("no\N{REPLACEMENT CHARACTER}t so postgresql://ada:[Filtered]@db/shop")


def test_a_log_is_bounded_and_keeps_the_newest_lines() -> None:
    dumps = []
    log = LogOfRun(dumps.append)
    with kept(log):
        for number in range(MOST_LINES + 5):
            logger.info("line %d", number)
    lines = len(dumps)
    with kept(log):
        for _ in range(20):
            logger.info("x" * MOST_BYTES)
    logger.info("after the run")
    assert lines == MOST_LINES + 5
    content = dumps[-1]()
    assert len(content) < MOST_BYTES + 2_000
    assert '"left_out": ' in content
    assert "after the run" not in content


def test_a_run_that_keeps_its_log_leaves_no_handler_behind() -> None:
    before = list(logging.root.handlers)
    with kept(LogOfRun(lambda dump: None)):
        assert len(logging.root.handlers) == len(before) + 1
    assert logging.root.handlers == before


def test_a_line_is_kept_although_the_handler_has_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.13 enters the lock of each handler."""

    def handle(handler: logging.Handler, record: logging.LogRecord) -> bool:
        with handler.lock:  # type: ignore[union-attr]
            handler.emit(record)
        return True

    monkeypatch.setattr(logging.Handler, "handle", handle)
    log = LogOfRun(lambda dump: None)
    with kept(log):
        logger.info("a line")
    assert "a line" in log.dump()


def test_a_record_without_a_name_does_not_reach_the_task() -> None:
    with kept(LogOfRun(lambda dump: None)):
        logger.handle(logging.makeLogRecord({"name": None, "msg": "a line", "levelno": logging.INFO}))


def test_characters_that_the_database_cannot_store_are_replaced() -> None:
    log = LogOfRun(lambda dump: None)
    log.add(
        logging.makeLogRecord({"name": "a\0b", "levelname": "x" * 500, "msg": "a\0b\ud800", "created": float("nan")})
    )
    ((seconds, level, name, text),) = json.loads(log.dump())["lines"]
    assert (name, text) == ("a\ufffdb", "a\ufffdb\ufffd")
    assert seconds > 1e9
    assert len(level) < 200


def test_warnings_reach_stderr_in_a_program_without_handlers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    log = LogOfRun(lambda dump: None)
    with kept(log):
        logger.info("nothing to worry about")
        logger.warning("worrying")
    assert capsys.readouterr().err == "worrying\n"
    assert "worrying" in log.dump()


def test_a_record_that_cannot_be_written_does_not_reach_the_task() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise SystemError

    log = LogOfRun(lambda dump: None)
    log.add(logging.makeLogRecord({"msg": "one %s", "args": (Hostile(),)}))
    assert "its values cannot be written" in log.dump()
    log.add(logging.makeLogRecord({"msg": Hostile()}))
    assert log.dump().count("its values cannot be written") == 2


def test_logs_are_kept_by_jobs_that_a_test_runs() -> None:
    app = App(connector=InMemoryConnector())

    @app.task(keep_logs=True)
    def tells() -> None:
        logger.info("told")

    job_id = tells.defer()
    with Jobs(app) as jobs:
        jobs.run()
    (log,) = app.job_manager.get_logs(job_id)
    assert texts(log) == ["told"]


def test_the_log_of_a_job_does_not_show_what_its_worker_logs() -> None:
    app = App(connector=InMemoryConnector())

    @app.task(keep_logs=True)
    def quiet(secret: str) -> None:
        pass

    job_id = quiet.defer(secret="s3cr3t")
    with Jobs(app) as jobs:
        jobs.run()
    assert app.job_manager.get_logs(job_id) == ()
