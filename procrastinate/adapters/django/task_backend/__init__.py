"""A backend for Django's own Tasks framework: jobs of ``django.tasks`` on the project's queue.

Nothing here is imported unless the setting ``TASKS`` names the backend.
"""
