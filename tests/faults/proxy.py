"""A TCP proxy whose connections can fall silent without being closed."""

from __future__ import annotations

import contextlib
import socket
import threading


class Connection:
    """A proxied connection: two sockets, and a thread for each direction.

    Parameters
    ----------
    is_frozen:
        Whether nothing passes from the start.
    """

    def __init__(self, client: socket.socket, port: int, *, is_frozen: bool) -> None:
        self._client = client
        self._server = socket.create_connection(("127.0.0.1", port))
        self.port = self._server.getsockname()[1]
        """The connection's ``client_port`` in ``pg_stat_activity``."""
        self._may_pass = threading.Event()
        if not is_frozen:
            self._may_pass.set()
        for source, target in ((self._client, self._server), (self._server, self._client)):
            threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    @property
    def is_open(self) -> bool:
        """Return whether both sides are open."""
        return self._client.fileno() != -1 and self._server.fileno() != -1

    def freeze(self) -> None:
        """Let nothing through from now on."""
        self._may_pass.clear()

    def close(self) -> None:
        """Close both sides."""
        for one in (self._client, self._server):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._may_pass.set()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._may_pass.wait()
                target.sendall(data)
        if self._may_pass.is_set():  # a frozen connection does not close the other side
            self.close()


class Proxy:
    """Listens on a port of its own and hands everything on to a server's.

    Parameters
    ----------
    port:
        The server's.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.connections: list[Connection] = []
        self._closed = False
        self._is_cut_off = False
        threading.Thread(target=self._accept, daemon=True).start()

    def by_server_port(self, port: int) -> Connection:
        """Return the connection with this client port on the server."""
        return next(one for one in self.connections if one.port == port)

    def freeze_all(self) -> None:
        """Freeze all current connections. New ones pass."""
        for one in list(self.connections):
            one.freeze()

    def cut_off(self) -> None:
        """Freeze all connections, and let new ones pass nothing either, until :meth:`reconnect`."""
        self._is_cut_off = True
        self.freeze_all()

    def reconnect(self) -> None:
        """Close what is frozen, and let new connections pass."""
        self._is_cut_off = False
        for one in list(self.connections):
            one.close()

    def lead_to(self, port: int) -> None:
        """Connect to another server from now on, and cut the connections to the first."""
        self._server_port = port
        for one in list(self.connections):
            one.close()

    def close(self) -> None:
        """Close the proxy and its connections."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self.connections:
            one.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
                self.connections.append(Connection(client, self._server_port, is_frozen=self._is_cut_off))
                if self._is_cut_off:  # it may have become so a moment ago
                    self.connections[-1].freeze()
            except OSError:
                if self._closed:
                    return
