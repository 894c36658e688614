"""A box office on FastAPI and SQLModel, which issues tickets by jobs, each once."""
