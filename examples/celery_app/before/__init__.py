"""The project on Celery."""
