"""The project on Procrastinate."""
