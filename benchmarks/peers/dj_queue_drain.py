"""Runs all waiting jobs with dj_queue, in threads of this process."""

from __future__ import annotations

import threading
import time

from benchmarks.peers import driving
from benchmarks.peers.dj_queue_app import asked, effects, make_supervisor


def serve(stopped: threading.Event) -> None:
    """Run the worker, and look after its threads, until the end."""
    supervisor = make_supervisor()
    supervisor.start()
    while not stopped.wait(supervisor.polling_interval):
        supervisor.poll_once()
    supervisor.stop()


async def main() -> None:
    effects.append(driving.Effects(asked["jobs"]))
    driving.say("ready")
    await driving.wait_for_word_async()
    started_at = time.time()
    stopped = threading.Event()
    runner = threading.Thread(target=serve, args=[stopped])
    runner.start()
    await driving.drain(effects[-1], started_at)
    stopped.set()
    runner.join()
    driving.say("done", **effects[-1].summary())


driving.run(main())
