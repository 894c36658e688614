"""Log records that name their job: a filter for any format, a formatter for JSON, and the fields for other libraries.

``procrastinate --log-format=json`` uses both classes. A program that configures logging itself can do the same.
"""

from __future__ import annotations

import datetime
import json
import logging
from typing import Any

from procrastinate._text.json_values import json_text, json_value
from procrastinate._text.log_records import message_of, text_of, traceback_of
from procrastinate._text.running_job import JOB_FIELDS, TRACE_FIELDS, read_job_fields, read_trace_fields

__all__ = ["JobFilter", "JsonFormatter", "job_fields"]

_FIELDS = (*JOB_FIELDS, *TRACE_FIELDS)
_MARK = "_procrastinate_job_fields"
_OWN_LOGGERS = "procrastinate."
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", _MARK}
"""Attributes of every record. The others come from ``extra``."""


def job_fields() -> dict[str, Any]:
    """Return the fields of the running job and the current span that are known, for example for structlog.

    Returns
    -------
    ``job_id``, ``task``, ``queue``, ``attempt`` (1 for the first run), ``worker_name``, ``meta``, and with
    OpenTelemetry ``trace_id`` and ``span_id``. Empty outside a job and without a span.
    """
    return {name: value for name, value in _all_fields().items() if value is not None}


def _all_fields() -> dict[str, Any]:
    return read_job_fields() | read_trace_fields()


class JobFilter(logging.Filter):
    """Sets the fields of :func:`job_fields` on each record, for formats such as ``%(job_id)s``. It drops no record.

    Add it to the handlers. A filter of a logger does not see the records of other loggers. A field is ``None``
    outside a job. A value that the record has from its ``extra`` stays.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the fields, and return true."""
        fields = _fields_of(record)
        values = vars(record)
        values[_MARK] = fields
        for name, value in fields.items():
            values.setdefault(name, value)
        return True


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields for a record. A record of the worker about a job may come from outside that job."""
    fields = _all_fields()
    job = getattr(record, "job", None)
    if fields["task"] is None and str(record.name).startswith(_OWN_LOGGERS) and isinstance(job, dict):
        fields |= {"job_id": job.get("id"), "task": job.get("task_name"), "queue": job.get("queue")}
    return fields


class JsonFormatter(logging.Formatter):
    """Writes each record as one line of JSON in ASCII.

    The keys are ``time`` (UTC), ``level``, ``logger``, ``message``, the known fields of :func:`job_fields`,
    ``exception`` (``type``, ``message``, ``traceback``), ``stack``, and ``extra`` with what the call of the logger
    added. What a task logs can neither begin another line nor replace a key. Passwords in URLs and connection
    strings are filtered, and so are values in ``extra`` whose names say that they are secret. Long values are cut.

    With a ``QueueHandler``, add :class:`JobFilter` to it: it stores the job before the record leaves its thread.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. Raises nothing because of the record's values."""
        try:
            return json.dumps(self._object(record), ensure_ascii=True, allow_nan=False)
        except Exception as error:  # for example a mapping that changes in another thread
            reason = f"the record cannot be written: {type(error).__name__}"
            return json.dumps({**self._head(record), "message": reason}, ensure_ascii=True)

    def _object(self, record: logging.LogRecord) -> dict[str, Any]:
        line = self._head(record) | {"message": message_of(record)}
        fields = getattr(record, _MARK, None) or _fields_of(record)
        line |= {name: json_value(fields[name]) for name in _FIELDS if fields.get(name) is not None}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _exception(record, record.exc_info[1])
        elif record.exc_text:  # QueueHandler has replaced the exception by its text
            line["exception"] = {"traceback": json_text(record.exc_text)}
        if record.stack_info:
            line["stack"] = json_text(record.stack_info)
        extra = _extra(record, fields)
        return line | ({"extra": json_value(extra)} if extra else {})

    @staticmethod
    def _head(record: logging.LogRecord) -> dict[str, Any]:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        return {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": json_text(str(record.levelname)),
            "logger": json_text(str(record.name)),
        }


def _exception(record: logging.LogRecord, error: BaseException) -> dict[str, str]:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {"type": json_text(name), "message": json_text(text_of(error)), "traceback": traceback_of(record, error)}


def _extra(record: logging.LogRecord, fields: dict[str, Any]) -> dict[str, Any]:
    """Return what ``extra`` added. The filter's own fields stand in the line already."""
    return {
        name: value
        for name, value in vars(record).items()
        if name not in _STANDARD and not (name in _FIELDS and value == fields.get(name))
    }
