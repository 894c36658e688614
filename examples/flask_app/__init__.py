"""A small shop on Flask and SQLAlchemy, with jobs that send receipts."""
