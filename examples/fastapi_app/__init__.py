"""A small shop on FastAPI and SQLAlchemy's asyncio, with jobs that send receipts."""
