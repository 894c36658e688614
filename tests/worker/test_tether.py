"""What ties a worker process to its supervisor."""

from __future__ import annotations

import os
import socket

from procrastinate.worker.processes.supervisor_socket import SupervisorsEnd


def test_a_worker_is_stopped_although_a_fork_of_the_supervisor_has_a_copy_of_its_end() -> None:
    supervisors = SupervisorsEnd(1)
    workers = socket.socket(fileno=os.dup(supervisors.descriptor))
    supervisors.handed_over()
    copy = os.dup(supervisors._end.fileno())
    supervisors.let_go()
    workers.settimeout(30)
    assert workers.recv(1) == b""
    workers.close()
    os.close(copy)
