"""Defer jobs from asynchronous code."""

from __future__ import annotations

import asyncio
import os

from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from examples.plain.tasks import add, app, greet


async def main() -> None:
    """Defer some jobs. One is rolled back with its transaction."""
    async with app.open_async():
        await add.defer_async(a=1, b=2)
        await greet.configure(priority=10).defer_async(name="first")
        await in_a_transaction()
        print(f"{len(await app.job_manager.list_jobs_async())} jobs are waiting or done")


async def in_a_transaction() -> None:
    """Defer a job inside the transaction of a session."""
    engine = create_async_engine(os.environ["DATABASE_URL"])
    async with AsyncSession(engine) as session:
        await greet.configure(connection=session).defer_async(name="commit")
        await session.commit()
        await greet.configure(connection=session).defer_async(name="rollback")
        await session.rollback()
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
