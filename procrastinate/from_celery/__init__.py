"""Moves a project from Celery: stand-ins for its tasks, a bridge for its messages, and its schedule as code.

Users import :mod:`procrastinate.contrib.celery`.
"""
