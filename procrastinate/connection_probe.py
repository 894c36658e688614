"""Try a worker's connections: can they be made, are they pooled, and do notifications arrive?"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

from procrastinate import exceptions
from procrastinate._durations import setting
from procrastinate.connector import BaseConnector
from procrastinate.core.doctor import Examination, Finding, Severity
from procrastinate.core.doctor.probe import PROBE_CHANNEL, send_probe
from procrastinate.core.worker_session import session_of

CONNECTION, NOTIFICATIONS = "Can a worker connect", "Do notifications arrive"
_PATIENCE = 5.0
"""Seconds for the connection that listens, and again for the notification."""


async def probe_worker_connections(connector: BaseConnector) -> tuple[list[Finding], list[Examination]]:
    """Connect as a worker does, listen, and send a notification. Return the findings and the checks.

    Parameters
    ----------
    connector:
        A worker's connector, as :meth:`~procrastinate.connector.BaseConnector.get_worker_connector` returns it. It is
        opened and closed.
    """
    findings: list[Finding] = []
    async with _opened(connector):
        try:
            session = await connector.run_async(session_of)
        except exceptions.ConnectorException as error:
            found = _cannot_connect(error)
            return [found], [Examination(name=CONNECTION, found=(found.code,))]
        if session is not None and not session.is_direct:
            findings.append(_POOLED)
        heard = await _hear_of_oneself(connector)
    findings += [] if heard is None else [heard]
    return findings, [
        Examination(name=CONNECTION, found=(_POOLED.code,) if _POOLED in findings else ()),
        Examination(name=NOTIFICATIONS, found=() if heard is None else (heard.code,)),
    ]


@contextlib.asynccontextmanager
async def _opened(connector: BaseConnector) -> AsyncIterator[None]:
    await connector.open_async()
    try:
        yield
    finally:
        await connector.close_async()


async def _hear_of_oneself(connector: BaseConnector) -> Finding | None:
    listening, heard = asyncio.Event(), asyncio.Event()
    sign = secrets.token_hex(8)

    async def on_notification(*, channel: str, payload: str) -> None:
        if payload == sign:
            heard.set()

    listener = asyncio.create_task(connector.listen_notify(on_notification, [PROBE_CHANNEL], listening.set))
    try:
        problem = await _wait(listening, listener)
        if problem is not None:
            return _cannot_listen(problem)
        await connector.run_async(send_probe, sign)
        return None if await _wait(heard, listener) is None else _NOT_HEARD
    except exceptions.ConnectorException as error:
        return _cannot_listen(str(error))
    finally:
        listener.cancel()
        await asyncio.wait({listener})


async def _wait(event: asyncio.Event, listener: asyncio.Task[None]) -> str | None:
    """Wait for the event. Return what went wrong, or ``None``."""
    waiting = asyncio.create_task(event.wait())
    done, _ = await asyncio.wait({waiting, listener}, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if waiting in done:
        return None
    error = listener.exception() if listener in done else None
    return str(error) if error is not None else f"nothing came within {setting(_PATIENCE)}"


_WAY_ROUND = "Give workers a direct connection for LISTEN: listen_connect_args, or PROCRASTINATE_LISTEN_CONNECT_ARGS"
_POOLED = Finding(
    code="pooled",
    severity=Severity.NOTE,
    text="A pooler that shares sessions stands between a worker and the server. The worker prepares no statements",
    advice="Set prepare_threshold=None on the psycopg connections that defer, and a direct connection for LISTEN",
)
_NOT_HEARD = Finding(
    code="notifications-not-heard",
    severity=Severity.WARNING,
    text="A worker hears no notifications. It finds new jobs, aborts and pauses when it polls",
    advice=_WAY_ROUND,
)


def _cannot_connect(error: Exception) -> Finding:
    return Finding(
        code="worker-cannot-connect",
        severity=Severity.FAULT,
        text=f"A worker cannot connect: {error}",
        advice="Compare the connection parameters of workers with those of the program",
    )


def _cannot_listen(problem: str) -> Finding:
    return Finding(
        code="listen-impossible",
        severity=Severity.WARNING,
        text=f"A worker cannot listen for notifications: {problem}",
        advice=_WAY_ROUND,
    )
