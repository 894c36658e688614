"""Brokers of Celery, of a test's own: Redis and RabbitMQ, if they are installed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import time
from collections.abc import Iterator

from tests.missing import find_program, missing

_REQUIRED_REDIS = "PROCRASTINATE_REQUIRE_REDIS"
_REQUIRED_RABBITMQ = "PROCRASTINATE_REQUIRE_RABBITMQ"
_DEADLINE = 60.0


@contextlib.contextmanager
def redis(directory: pathlib.Path) -> Iterator[str]:
    """Run Redis, and give its URL. It listens on a socket in the directory."""
    program = find_program("redis-server")
    if program is None:
        missing("redis-server is not installed (Debian: apt install redis-server)", _REQUIRED_REDIS)
    path = directory / "redis.sock"
    command = [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(directory)]
    with _running(command, {}, directory) as process:
        _wait(process, path.exists)
        yield f"redis+socket://{path}"


@contextlib.contextmanager
def rabbitmq(directory: pathlib.Path) -> Iterator[str]:
    """Run RabbitMQ, and give its URL. It listens on free ports of this machine."""
    program = find_program("rabbitmq-server", further="/usr/lib/rabbitmq/bin:/usr/sbin")
    if program is None:
        missing("rabbitmq-server is not installed (Debian: apt install rabbitmq-server)", _REQUIRED_RABBITMQ)
    port, dist_port, epmd_port = _free_ports(3)
    environment = {
        "HOME": str(directory),  # The nodes of one cookie know each other.
        "RABBITMQ_NODENAME": f"procrastinate{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(dist_port),
        "RABBITMQ_MNESIA_BASE": str(directory),
        "RABBITMQ_LOG_BASE": str(directory),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "no-plugins"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "no-settings"),
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    # What Debian puts on the path changes to a user of its own, who may not write here.
    own = pathlib.Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    with _running([str(own) if own.exists() else program], environment, directory) as process:
        try:
            _wait(process, lambda: _answers(port))
            yield f"pyamqp://guest:guest@127.0.0.1:{port}//"
        finally:
            process.terminate()
            process.wait(_DEADLINE)
            # The first node of a port has started this daemon, which would stay.
            subprocess.run(["epmd", "-kill"], env={**os.environ, **environment}, capture_output=True, check=False)


@contextlib.contextmanager
def _running(
    command: list[str], environment: dict[str, str], directory: pathlib.Path
) -> Iterator[subprocess.Popen[bytes]]:
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, cwd=directory, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process
        except BaseException as error:
            error.add_note((directory / "output").read_text()[-2000:])
            raise
        finally:
            process.terminate()
            process.wait(_DEADLINE)


def _wait(process: subprocess.Popen[bytes], is_there: object) -> None:
    """Wait until a broker takes connections."""
    assert callable(is_there)
    deadline = time.monotonic() + _DEADLINE
    while not is_there():
        assert process.poll() is None, "The broker has ended"
        assert time.monotonic() < deadline, "The broker does not answer"
        time.sleep(0.05)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"  # a frame of the protocol
    except OSError:
        return False


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as sockets:
        opened = [sockets.enter_context(socket.socket()) for _ in range(number)]
        for one in opened:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in opened]
