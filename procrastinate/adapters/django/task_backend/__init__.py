"""A backend for Django's Tasks framework that stores ``django.tasks`` jobs in the project's queue.

Nothing here is imported unless the setting ``TASKS`` names the backend.
"""
