"""A shop on Flask-SQLAlchemy, with jobs that award loyalty points exactly once."""
