"""Turns the messages in queues of Celery into jobs: the job is committed, and then the message is acknowledged.

Messages that are there already are stored together, in one statement and one commit.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from procrastinate._extras import needs_extra

with needs_extra("The bridge from Celery", "celery"):
    import kombu
    import kombu.exceptions

from procrastinate import exceptions
from procrastinate._durations import duration
from procrastinate._long_waits import told_by_thread
from procrastinate._quoting import quoted
from procrastinate._text.logs import get_logger
from procrastinate.app import App
from procrastinate.core.errors import is_row_refused
from procrastinate.from_celery.messages import NotAJob, read_message
from procrastinate.jobs import Job

logger = get_logger(__name__)

_PREFETCH = 100
"""Messages that the broker hands out before the first of them is acknowledged. As many are stored together."""
_MOST_BYTES = 4_000_000
"""Size of the bodies of the messages at hand from which on they are stored, however few they are."""
_GATHER = 0.02
"""Seconds without a further message, after which those at hand are stored."""
_DRAIN = 1.0
"""Seconds that one wait for messages takes at most. A stop is noticed after that."""
_PAUSE = 1.0
"""Seconds until the next try, if the broker or the database cannot be reached."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BridgeOptions:
    """What a bridge connects.

    Attributes
    ----------
    broker:
        The URL of the broker. It may hold a password, and stands in no log.
    queues:
        The queues of the broker. A job gets the name of its queue.
    once:
        End when the queues have been empty for ``quiet`` seconds.
    left_suffix:
        A message that cannot become a job goes to the queue of its own queue's name and this suffix.
    """

    broker: str
    queues: Sequence[str]
    once: bool = False
    quiet: float = 2.0
    left_suffix: str = ".left"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Source:
    """The queue that a message comes from, and the kind of its broker."""

    queue: str
    driver: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pending:
    """A message at hand, and the job that it becomes."""

    message: Any
    source: _Source
    job: Job


class Bridge:
    """Consumes messages until it is stopped.

    Attributes
    ----------
    counts:
        How many messages became jobs (``"moved"``), and how many were put into the other queue (``"left"``).
    """

    def __init__(self, app: App, options: BridgeOptions) -> None:
        self._app = app
        self._options = options
        self._stopped = threading.Event()
        self._last_message = time.monotonic()
        self._pending: list[_Pending] = []
        self._bytes = 0
        self.counts: collections.Counter[str] = collections.Counter()

    def stop(self) -> None:
        """End after the messages at hand. It can be called from a signal handler."""
        self._stopped.set()

    def run(self) -> None:
        """Consume. The app is open. What is not acknowledged at the end stays in the broker.

        Raises
        ------
        LookupError
            A queue does not exist.
        ValueError
            The URL of the broker leads to no transport.
        """
        if "://" not in self._options.broker:  # kombu would take it for the name of a host with RabbitMQ
            raise ValueError("The broker's URL has no scheme: write it like redis://localhost:6379/0")
        try:
            connection = kombu.Connection(self._options.broker, transport_options={"confirm_publish": True})
            broken = (*connection.connection_errors, kombu.exceptions.OperationalError)
        except (KeyError, ImportError) as error:
            raise ValueError(f"The broker's URL names no transport that is installed: {quoted(str(error))}") from None
        except ValueError:  # its text may repeat a part of the password
            raise ValueError(
                "The broker's URL cannot be read: write it like redis://:password@localhost:6379/0, with special "
                "characters percent-encoded"
            ) from None
        self._tell_start(connection)
        self._last_message = time.monotonic()
        while not self._is_over():
            try:
                self._consume(connection)
            except connection.channel_errors as error:
                raise LookupError(f"The broker refuses a queue: {quoted(str(error))}") from error
            except broken as error:
                self._pause("broker_lost", "The broker %s cannot be reached", connection.as_uri(), str(error))
            except Exception as error:  # what is no message at all, the transport has taken from the queue and dropped
                self._pause("unreadable", "The broker %s gave what is no message", connection.as_uri(), _reason(error))
        connection.release()

    def _pause(self, action: str, problem: str, broker: str, reason: str) -> None:
        logger.warning(
            f"{problem}, another try follows: %s",
            broker,
            quoted(reason),
            extra={"action": f"celery_bridge_{action}"},
        )
        self._stopped.wait(_PAUSE)
        self._last_message = time.monotonic()

    def _tell_start(self, connection: Any) -> None:
        logger.info(
            "Making jobs of the messages in %s of %s, until %s",
            ", ".join(map(quoted, self._options.queues)),
            connection.as_uri(),
            "no more come" if self._options.once else "Ctrl-C",
            extra={"action": "celery_bridge_started"},
        )

    def _consume(self, connection: Any) -> None:
        """Consume on one connection, until the end or until it is lost."""
        self._pending, self._bytes = [], 0  # The broker gives those of a lost connection again.
        with connection.clone() as live, live.channel() as channel:
            producer = kombu.Producer(channel)
            with contextlib.ExitStack() as consumers:
                for queue in self._options.queues:
                    source = _Source(queue=queue, driver=live.transport.driver_type)
                    consumers.enter_context(self._consumer(channel, source, producer))
                self._last_message = time.monotonic()  # To connect may have taken long.
                while not self._is_over():
                    self._take_some(live, producer)
                self._store_pending(producer)

    def _take_some(self, live: Any, producer: Any) -> None:
        """Wait for a message. If none comes soon, store those at hand."""
        try:
            live.drain_events(timeout=_GATHER if self._pending else min(_DRAIN, self._options.quiet))
        except TimeoutError:
            self._store_pending(producer)
            live.heartbeat_check()

    def _consumer(self, channel: Any, source: _Source, producer: Any) -> Any:
        """Make the consumer of a queue. The queue is Celery's: it is used as it was declared."""
        consumer = kombu.Consumer(
            channel,
            queues=[kombu.Queue(source.queue, no_declare=True)],
            auto_declare=False,
            accept=["json"],
            on_message=lambda message: self._receive(message, source, producer),
            on_decode_error=lambda message, error: self._leave_at_once(message, source, producer, error),
        )
        consumer.qos(prefetch_count=_PREFETCH)
        return consumer

    def _is_over(self) -> bool:
        is_quiet = time.monotonic() - self._last_message > self._options.quiet
        return self._stopped.is_set() or (self._options.once and is_quiet)

    def _receive(self, message: Any, source: _Source, producer: Any) -> None:
        if self._stopped.is_set():
            return  # It is not acknowledged, so the broker keeps it.
        self._last_message = time.monotonic()
        try:
            job = self._job_of(message, source)
        except Exception as error:  # a message is data: whatever it raises, the others go on
            self._leave_at_once(message, source, producer, error)
            return
        self._pending.append(_Pending(message=message, source=source, job=job))
        self._bytes += len(message.body or "")
        if len(self._pending) >= _PREFETCH or self._bytes >= _MOST_BYTES:
            self._store_pending(producer)

    def _leave_at_once(self, message: Any, source: _Source, producer: Any, error: Exception) -> None:
        """Put a message that becomes no job into the other queue, behind those at hand."""
        self._store_pending(producer)
        self._leave(message, source, producer, _reason(error))
        self._last_message = time.monotonic()  # The queue was not quiet in that time.

    def _job_of(self, message: Any, source: _Source) -> Job:
        """Make the job of a message.

        The queueing lock is the message's id. So a message that comes again, because the bridge died before it
        acknowledged it, finds its job if that has not started.
        """
        task_message = read_message(message.headers, message.decode())
        return self._app.configure_task(
            task_message.task_name,
            queue=source.queue,
            priority=_priority_of(message, source.driver),
            schedule_at=task_message.eta,
            queueing_lock=f"celery:{task_message.call.id}",
        ).make_new_job(**task_message.call.as_arguments())

    def _store_pending(self, producer: Any) -> None:
        """Store the jobs of the messages at hand, in one commit. If they do not go together, each is stored alone."""
        pending, self._pending, self._bytes = self._pending, [], 0
        if not pending:
            return
        try:
            self._store([one.job for one in pending])
        except Exception:
            self._store_each(pending, producer)
        else:
            for one in pending:
                one.message.ack()
            self.counts["moved"] += len(pending)
        self._last_message = time.monotonic()  # The queue was not quiet in that time.

    def _store(self, jobs: list[Job]) -> None:
        with told_by_thread(_tell_waiting):
            self._app.job_manager.batch_defer_jobs(jobs, on_conflict="skip")

    def _store_each(self, pending: Sequence[_Pending], producer: Any) -> None:
        """Leave those that cannot be stored. Give back those that the database does not take now, and pause."""
        lost: exceptions.ConnectorException | None = None
        for one in pending:
            try:
                self._store([one.job])
            except Exception as error:
                if isinstance(error, exceptions.ConnectorException) and not is_row_refused(error):
                    lost = error
                    one.message.requeue()
                    continue
                self._leave(one.message, one.source, producer, _reason(error))
            else:
                one.message.ack()
                self.counts["moved"] += 1
        if lost is not None:
            logger.warning(
                "The database takes no job, another try follows: %s",
                quoted(str(lost)),
                extra={"action": "celery_bridge_database_lost"},
            )
            self._stopped.wait(_PAUSE)

    def _leave(self, message: Any, source: _Source, producer: Any, reason: str) -> None:
        """Put a message as it is into the other queue, and then acknowledge it."""
        queue = f"{source.queue}{self._options.left_suffix}"
        all_headers = message.headers if isinstance(message.headers, Mapping) else {}
        logger.warning(
            "A message of task %s goes to the queue %s: %s",
            quoted(str(all_headers.get("task"))),
            quoted(queue),
            quoted(reason),
            extra={"action": "celery_bridge_left"},
        )
        # kombu compresses again what it has read. What it cannot read stays as it is.
        compression = None if message.errors else all_headers.get("compression")
        headers = {name: value for name, value in all_headers.items() if name != "compression" or message.errors}
        kept = {name: message.properties.get(name) for name in ("correlation_id", "reply_to", "priority")}
        producer.publish(
            message.body,
            exchange="",
            routing_key=queue,
            declare=[kombu.Queue(queue, durable=True)],
            headers=headers,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            compression=compression,
            **{name: value for name, value in kept.items() if value is not None},
        )
        message.ack()
        self.counts["left"] += 1


def _tell_waiting(waited: float) -> None:
    message = "Waiting for the database (%s): it does not answer, or another session has locked a table"
    logger.warning(message, duration(waited), extra={"action": "celery_bridge_database_awaited"})


def _reason(error: Exception) -> str:
    """Return why a message cannot become a job. Some exceptions are understood only with their names."""
    is_plain = isinstance(error, NotAJob | exceptions.ProcrastinateException)
    return str(error) if is_plain else f"{type(error).__name__}: {error}"


def _priority_of(message: Any, driver: str) -> int | None:
    """Return the priority as one of this queue: the higher, the sooner. Over Redis, 0 is the highest."""
    priority = message.properties.get("priority")
    if not isinstance(priority, int):
        return None
    return -priority if driver == "redis" else priority
