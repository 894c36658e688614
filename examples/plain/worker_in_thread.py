"""A synchronous program with a worker in a thread."""

from __future__ import annotations

import asyncio
import threading

from examples.plain.tasks import app
from procrastinate.worker import Worker

done = threading.Event()


@app.task
def last() -> None:
    """Tell the program that all jobs deferred earlier have run."""
    done.set()


def main() -> None:
    """Start a worker, defer a job, wait for it, stop the worker."""
    # Signal handlers belong to the main thread.
    worker = Worker(app, name="in a thread", install_signal_handlers=False)
    thread = threading.Thread(target=asyncio.run, args=[worker.run()])
    thread.start()
    with app.open():
        last.configure(priority=-1).defer()
        done.wait()
    worker.stop()
    thread.join()
    print("The worker has stopped")


if __name__ == "__main__":
    main()
