"""Makes dj_queue's schema, and enqueues jobs for a drain, those of a line behind a full key first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import batched  # type: ignore[attr-defined] # its environment has Python 3.12
from typing import Any

from django.core.management import call_command

from benchmarks.peers import driving
from benchmarks.peers.dj_queue_app import LINE, TASKS, asked, wait

_BATCH = 1000


def enqueue(task: Any, calls: Iterable[Sequence[int]]) -> None:
    """Enqueue a task in batches, with these arguments."""
    for batch in batched(calls, _BATCH):
        task.get_backend().enqueue_all([(task, list(arguments), {}) for arguments in batch])


call_command("migrate", verbosity=0)
enqueue(wait.using(queue_name=LINE), ([0] for _ in range(asked.get("line", 0))))
enqueue(TASKS[asked.get("task", "noop")], ([number] for number in range(asked["jobs"])))
driving.say("done")
