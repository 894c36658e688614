"""A small shop on FastAPI and SQLAlchemy's asyncio, which sends receipts by jobs."""
