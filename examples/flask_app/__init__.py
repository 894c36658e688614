"""A small shop on Flask and SQLAlchemy, which sends receipts by jobs."""
