"""Runs all waiting jobs with dj_queue, in threads of this process."""

from __future__ import annotations

import threading
import time

from dj_queue.runtime.supervisor import AsyncSupervisor

from benchmarks.peers import driving
from benchmarks.peers.dj_queue_app import asked, effects


def serve(supervisor: AsyncSupervisor, stopped: threading.Event) -> None:
    """Look after the threads of the worker until the end."""
    while not stopped.wait(supervisor.polling_interval):
        supervisor.poll_once()


async def main() -> None:
    effects.append(driving.Effects(asked["jobs"]))
    supervisor = AsyncSupervisor.from_backend_config(backend_alias="default", standalone=False)
    driving.say("ready")
    await driving.wait_for_word_async()
    started_at = time.time()
    stopped = threading.Event()
    runner = threading.Thread(target=lambda: (supervisor.start(), serve(supervisor, stopped), supervisor.stop()))
    runner.start()
    await driving.drain(effects[-1], started_at)
    stopped.set()
    runner.join()
    driving.say("done", **effects[-1].summary())


driving.run(main())
