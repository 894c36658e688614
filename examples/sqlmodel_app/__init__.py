"""A box office on FastAPI and SQLModel, with jobs that issue each ticket exactly once."""
