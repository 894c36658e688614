"""The connection that listens."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pathlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.adapters.connections import listen
from procrastinate.adapters.connections.connect_args import ConnectArgs
from procrastinate.adapters.connections.conninfo import connection_parameters
from tests.database import libpq_url


class Listener:
    """A listening task, and what it has heard."""

    def __init__(self, parameters: dict[str, Any], channels: list[str]) -> None:
        self.heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.listening = asyncio.Event()
        listening = listen.listen(ConnectArgs(parameters), self._hear, channels, self.listening.set)
        self.task = asyncio.create_task(listening)

    async def _hear(self, *, channel: str, payload: str) -> None:
        self.heard.put_nowait((channel, payload))


@pytest.fixture
def parameters(database_url: str) -> dict[str, Any]:
    """How psycopg reaches the database."""
    return connection_parameters(libpq_url(database_url))


@contextlib.asynccontextmanager
async def _listening(parameters: dict[str, Any], *channels: str) -> AsyncIterator[Listener]:
    listener = Listener(parameters, list(channels))
    async with asyncio.timeout(10):
        await listener.listening.wait()
    yield listener
    listener.task.cancel()
    await asyncio.wait([listener.task])


def _notify(connection: sa.Connection, channel: str, payload: str) -> None:
    connection.execute(sa.select(sa.func.pg_notify(channel, payload)))


async def test_all_channels_are_heard(parameters: dict[str, Any], connection: sa.Connection) -> None:
    """Whatever their names have in them."""
    channels = ["plain", "Upper Case", "semi;colon", 'quo"te', "procrastinate_queue_v1#é%s"]
    async with _listening(parameters, *channels) as listener, asyncio.timeout(10):
        for channel in channels:
            _notify(connection, channel, f"to {channel}")
        for channel in channels:
            assert await listener.heard.get() == (channel, f"to {channel}")


async def test_nothing_is_missed_while_a_notification_is_handled(
    parameters: dict[str, Any], connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor while the server is asked whether it is there."""
    monkeypatch.setattr(listen, "PROBE_INTERVAL", 0.001)
    async with _listening(parameters, "channel") as listener, asyncio.timeout(10):
        for number in range(200):
            _notify(connection, "channel", str(number))
            await asyncio.sleep(0)
        assert [await listener.heard.get() for _ in range(200)] == [("channel", str(n)) for n in range(200)]


async def test_a_lost_connection_is_an_error(parameters: dict[str, Any], end_connections: Callable[[], int]) -> None:
    """At once."""
    async with _listening(parameters, "channel") as listener:
        end_connections()
        with pytest.raises(exceptions.ConnectorException):
            await asyncio.wait_for(listener.task, 10)


_READY_FOR_QUERY = b"Z\x00\x00\x00\x05I"
"""The last that the server says before it is asked anything."""
_STEPS_OF_AN_ACCEPT = 5
"""How often the event loop goes round, at most, until asyncio hands an accepted connection over."""


class Proxy:
    """A TCP door to the server's socket that can stop letting anything through, without closing."""

    def __init__(self, socket_path: pathlib.Path) -> None:
        self._socket_path = socket_path
        self._open = asyncio.Event()
        self._open.set()
        self._greets_only = False
        self._has_greeted = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> int:
        """The port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def block_newcomers_after_the_greeting(self) -> None:
        """Let connections be made, and nothing through once they are."""
        self._greets_only = True

    async def has_greeted(self) -> None:
        """Wait until there is such a connection."""
        await self._has_greeted.wait()

    def block(self) -> None:
        """Let nothing through any more."""
        self._open.clear()

    def replace(self) -> None:
        """Let new connections through; those that there are stay silent."""
        self._open = asyncio.Event()
        self._open.set()
        self._greets_only = False

    async def stop(self) -> None:
        """Close.

        asyncio leaves a connection open that it is about to hand over when its server closes, so nothing is accepted
        from now on, and what was accepted gets here first. A task that is cancelled before it starts closes nothing,
        so this closes every connection.
        """
        for listening in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(_STEPS_OF_AN_ACCEPT):
            await asyncio.sleep(0)
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._tasks.add(asyncio.create_task(self._connect(reader, writer)))

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._socket_path)
        self._writers.append(server_writer)
        may_pass = self._open
        if self._greets_only:
            may_pass = asyncio.Event()
            may_pass.set()
        for source, target in ((reader, server_writer), (server_reader, writer)):
            self._tasks.add(asyncio.create_task(self._forward(source, target, may_pass)))

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, may_pass: asyncio.Event
    ) -> None:
        try:
            while data := await source.read(4096):
                await may_pass.wait()
                target.write(data)
                if self._greets_only and data.endswith(_READY_FOR_QUERY):
                    may_pass.clear()
                    self._has_greeted.set()
        finally:
            target.close()


@pytest.fixture
async def proxy(parameters: dict[str, Any]) -> AsyncIterator[Proxy]:
    """In front of the server; the parameters lead through it."""
    proxy = Proxy(pathlib.Path(parameters["host"]) / ".s.PGSQL.5432")
    parameters |= {"host": "127.0.0.1", "port": await proxy.start(), "sslmode": "disable", "gssencmode": "disable"}
    yield proxy
    await proxy.stop()


@pytest.mark.parametrize("steps", range(10))
async def test_a_proxy_that_stops_while_a_client_connects_leaves_no_stream_open(
    parameters: dict[str, Any], steps: int
) -> None:
    """An open stream is reported when it is collected, and that fails any later test."""
    proxy = Proxy(pathlib.Path(parameters["host"]) / ".s.PGSQL.5432")
    with socket.create_connection(("127.0.0.1", await proxy.start())):
        for _ in range(steps):
            await asyncio.sleep(0)
        await proxy.stop()
    streams = [one for one in gc.get_objects() if issubclass(type(one), asyncio.StreamWriter)]
    assert [stream for stream in streams if not stream.is_closing()] == []


async def test_a_server_that_is_gone_without_a_word_is_noticed(
    parameters: dict[str, Any], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection stays open, and nothing comes any more."""
    monkeypatch.setattr(listen, "PROBE_INTERVAL", 0.05)
    monkeypatch.setattr(listen, "ANSWER_TIMEOUT", 0.3)
    async with _listening(parameters, "channel") as listener:
        proxy.block()
        with pytest.raises(exceptions.DatabaseUnavailable):
            await asyncio.wait_for(listener.task, 10)


async def test_cancelling_does_not_wait_for_a_server_that_is_gone(
    parameters: dict[str, Any], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even in the middle of a question to it."""
    asked = asyncio.Event()
    execute = listen._execute

    async def tell_and_execute(*args: Any) -> None:
        asked.set()
        await execute(*args)

    monkeypatch.setattr(listen, "PROBE_INTERVAL", 0.05)
    monkeypatch.setattr(listen, "_execute", tell_and_execute)
    async with _listening(parameters, "channel") as listener, asyncio.timeout(3):
        proxy.block()
        asked.clear()
        await asked.wait()
        await asyncio.sleep(0)  # into the wait for the answer
        listener.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listener.task
