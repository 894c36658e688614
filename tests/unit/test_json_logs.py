"""JSON log records: one line each, readable by every parser, without secrets, and with the job that they belong to."""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import queue
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace

from procrastinate._text.running_job import RunningJob, running_job
from procrastinate.logs import JobFilter, JsonFormatter, job_fields

JOB = RunningJob(job_id=7, task="shop.pay", queue="mail", attempt=2, worker_name="w1")
OF_JOB = {"job_id": 7, "task": "shop.pay", "queue": "mail", "attempt": 2, "worker_name": "w1"}
HOSTILE = 'x"}\n{"level": "CRITICAL"}\r\x1b[2K\u202e\x00\ud800'


class Log:
    """A logger whose handler writes JSON."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(JsonFormatter())
        self.logger = logging.Logger("program")
        self.logger.addHandler(handler)

    def line(self) -> dict[str, Any]:
        """Return the only record that was written."""
        text = self._stream.getvalue()
        assert text.endswith("\n")
        assert text.count("\n") == 1
        assert text[:-1].isascii()
        assert text[:-1].isprintable()

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        line = json.loads(text, parse_constant=refuse)
        assert isinstance(line, dict)
        return line

    def extra(self, **values: Any) -> Any:
        """Log a record with these values in ``extra``, and return what was written of them."""
        self.logger.info("hello", extra=values)
        return self.line()["extra"]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def in_job() -> Iterator[None]:
    token = running_job.set(JOB)
    yield
    running_job.reset(token)


def test_a_record_outside_a_job_has_the_time_the_level_the_logger_and_the_message(log: Log) -> None:
    log.logger.warning("%d apples", 3)
    line = log.line()
    assert line.pop("time").endswith("Z")
    assert line == {"level": "WARNING", "logger": "program", "message": "3 apples"}


@pytest.mark.usefixtures("in_job")
def test_a_record_inside_a_job_names_the_job(log: Log) -> None:
    log.logger.info("hello")
    assert log.line().items() >= OF_JOB.items()


@pytest.mark.usefixtures("in_job")
def test_a_record_inside_a_span_names_the_trace(log: Log) -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=False))
    with trace.use_span(span):
        log.logger.info("hello")
        ids = {"trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}
        assert job_fields() == OF_JOB | ids
    assert log.line().items() >= (OF_JOB | ids).items()
    assert job_fields() == OF_JOB


def test_no_fields_are_known_outside_a_job() -> None:
    assert job_fields() == {}


@pytest.mark.parametrize("where", ["message", "argument", "extra", "key", "exception", "stack", "logger"])
def test_hostile_text_stays_inside_its_value(log: Log, where: str) -> None:
    log.logger.name = HOSTILE if where == "logger" else "program"
    error = ValueError(HOSTILE) if where == "exception" else None
    extra = {"one": HOSTILE} if where == "extra" else {HOSTILE: 1} if where == "key" else None
    message, *arguments = (HOSTILE,) if where == "message" else ("%s", HOSTILE)
    log.logger.error(message, *arguments, exc_info=error, extra=extra, stack_info=where == "stack")
    assert log.line()["level"] == "ERROR"


@pytest.mark.usefixtures("in_job")
def test_a_value_of_the_call_cannot_replace_a_field_of_the_record(log: Log) -> None:
    taken = {"job_id": 8, "queue": "other", "level": "CRITICAL", "time": "never", "logger": "mine"}
    log.logger.info("hello", extra=taken)
    line = log.line()
    assert (line["job_id"], line["queue"], line["level"], line["logger"]) == (7, "mail", "INFO", "program")
    assert line["extra"] == taken


@pytest.mark.parametrize(
    "name", ["password", "DB_PASSWD", "secret_key", "accessToken", "Authorization", "set-cookie", "api_key", "dsn"]
)
def test_a_value_whose_name_says_that_it_is_secret_is_filtered(log: Log, name: str) -> None:
    written = log.extra(settings={"list": [{name: "hunter2"}], "kept": 1})
    assert written == {"settings": {"list": [{name: "[Filtered]"}], "kept": 1}}


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:hunter2@host/db",
        "postgresql://me:hunter2@hunter2@host/db",
        "postgresql://:hunter2@host/db",
        "redis://:hunter2@host?password=hunter2&x=1",
        "host=h password=hunter2 user=me",
        "host=h password='hunter2 \\' hunter2' user=me",
        "connect(password='hunter2')",
    ],
)
@pytest.mark.parametrize("where", ["message", "extra", "exception"])
def test_a_password_in_a_connection_string_is_filtered(log: Log, text: str, where: str) -> None:
    if where == "exception":
        log.logger.error("failed", exc_info=ValueError(text))
    else:
        log.logger.error("%s", text if where == "message" else "", extra={"used": [text]} if where == "extra" else None)
    assert "hunter2" not in json.dumps(log.line())
    assert "[Filtered]" in json.dumps(log.line())


def test_numbers_that_json_lacks_become_text(log: Log) -> None:
    written = log.extra(nan=float("nan"), infinite=float("-inf"), large=10**5000, fits=2**62)
    assert written["nan"] == "nan"
    assert written["infinite"] == "-inf"
    assert written["fits"] == 2**62
    assert isinstance(written["large"], str)


def test_a_nested_value_is_cut_without_its_secrets(log: Log) -> None:
    loop: dict[str, Any] = {"password": "hunter2"}
    loop["itself"] = loop
    deep: Any = {"password": "hunter2"}
    for _ in range(5_000):
        deep = [deep]
    assert "hunter2" not in json.dumps(log.extra(loop=loop, deep=deep))


def test_a_large_value_is_cut(log: Log) -> None:
    log.logger.info(
        "m" * 10**6, extra={"text": "t" * 10**6, "items": list(range(10**5)), "by_key": dict.fromkeys(range(10**5))}
    )
    assert len(json.dumps(log.line())) < 100_000


def test_an_object_that_cannot_be_written_does_not_lose_the_record(log: Log) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert log.extra(broken=Broken(), kept=1) == {"broken": "<RuntimeError>", "kept": 1}


def test_values_that_do_not_fit_the_message_do_not_lose_the_record(log: Log) -> None:
    log.logger.info("%d apples", "three")
    assert log.line()["message"] == "%d apples (its values cannot be written: TypeError)"


def test_an_exception_has_its_type_its_message_and_its_traceback(log: Log) -> None:
    try:
        raise json.JSONDecodeError("bad", "doc", 0)
    except ValueError:
        log.logger.exception("failed")
    written = log.line()["exception"]
    assert (written["type"], written["message"]) == ("json.decoder.JSONDecodeError", "bad: line 1 column 1 (char 0)")
    assert "test_an_exception_has_its_type" in written["traceback"]


def test_a_format_can_show_the_job_inside_and_outside_of_it() -> None:
    formatter = logging.Formatter("%(job_id)s %(task)s %(message)s")
    record = logging.makeLogRecord({"msg": "hello"})
    token = running_job.set(JOB)
    try:
        assert JobFilter().filter(record)
    finally:
        running_job.reset(token)
    outside = logging.makeLogRecord({"msg": "hello"})
    assert JobFilter().filter(outside)
    assert [formatter.format(one) for one in (record, outside)] == ["7 shop.pay hello", "None None hello"]


@pytest.mark.usefixtures("in_job")
def test_a_queue_handler_with_the_filter_keeps_the_job_for_another_thread() -> None:
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    handler.addFilter(JobFilter())
    logger = logging.Logger("program")
    logger.addHandler(handler)
    logger.error("failed", exc_info=ValueError("why"))
    token = running_job.set(None)
    try:
        line = json.loads(JsonFormatter().format(records.get()))
    finally:
        running_job.reset(token)
    assert line.items() >= OF_JOB.items()
    assert "extra" not in line
