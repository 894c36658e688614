"""Create the shop's tables and the queue's."""

from __future__ import annotations

import asyncio

from examples.fastapi_app.database import Base, engine
from examples.fastapi_app.tasks import queue


async def main() -> None:
    """Create both on the shop's engine."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with queue.open_async():
        await queue.schema_manager.apply_schema_async()
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
