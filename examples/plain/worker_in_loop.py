"""An asynchronous program with a worker in its own event loop."""

from __future__ import annotations

import asyncio

from examples.plain.tasks import app

done = asyncio.Event()


@app.task
async def last() -> None:
    """Tell the program that all jobs deferred earlier have run."""
    done.set()


async def main() -> None:
    """Start a worker, defer a job, wait for it, stop the worker."""
    async with app.open_async():
        # The program handles signals itself. It cancels the worker, which then waits for running jobs.
        worker = asyncio.create_task(app.run_worker_async(name="in the loop", install_signal_handlers=False))
        await last.configure(priority=-1).defer_async()
        await done.wait()
        worker.cancel()
        await asyncio.wait([worker])
    print("The worker has stopped")


if __name__ == "__main__":
    asyncio.run(main())
