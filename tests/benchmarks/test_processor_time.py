"""What the processor time of a process and of its children counts."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.processor_time import family_seconds

_BURN = """
import sys, time
while time.process_time() < 0.3:
    pass
print("burnt", flush=True)
sys.stdin.readline()
"""
_SHORT_BURN = """
import sys, time
print("ready", flush=True)
sys.stdin.readline()
began = time.process_time()
while time.process_time() - began < 0.003:
    pass
print("burnt", flush=True)
sys.stdin.readline()
"""
_PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_children_count_while_they_run_and_after_they_have_ended() -> None:
    before = family_seconds(os.getpid())
    with subprocess.Popen([sys.executable, "-c", _BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"burnt\n"
        assert family_seconds(os.getpid()) - before >= 0.28  # this process counts in ticks of 10 ms
    assert family_seconds(os.getpid()) - before >= 0.28


def test_a_child_is_read_more_finely_than_in_ticks() -> None:
    command = [sys.executable, "-c", _PARENT, _SHORT_BURN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        before = family_seconds(parent.pid)
        parent.stdin.write(b"\n")
        assert parent.stdout.readline() == b"burnt\n"
        assert 0.003 <= family_seconds(parent.pid) - before < 0.009  # less than a tick
