"""Emitted from the Alembic revisions by :mod:`procrastinate.adapters.django.emit_migrations`."""
