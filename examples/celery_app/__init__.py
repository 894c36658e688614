"""A small Celery project, before and after it moves."""
