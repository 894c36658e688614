"""Create the box office's tables and the queue's, and a concert with three seats."""

from __future__ import annotations

import asyncio

from sqlmodel import SQLModel

from examples.sqlmodel_app.database import Concert, engine, new_session
from examples.sqlmodel_app.tasks import queue


async def make_tables() -> None:
    """Create everything on the box office's engine."""
    async with engine.begin() as connection:
        await connection.run_sync(SQLModel.metadata.create_all)
    async with queue.open_async():
        await queue.schema_manager.apply_schema_async()
    await engine.dispose()


async def main() -> None:
    """Create the tables and a concert to book."""
    await make_tables()
    async with new_session.begin() as session:
        session.add(Concert(id=1, seats=3))
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
