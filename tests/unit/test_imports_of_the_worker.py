"""What is loaded together with the class of workers, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from procrastinate.worker import Worker
assert "sqlalchemy.ext.asyncio" in sys.modules
"""


def test_the_class_of_workers_loads_the_orm_before_a_thread_runs_a_worker() -> None:
    """A program imports the class, starts a thread for the worker, and defers in its own thread at the same time."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
