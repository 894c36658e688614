"""The project with the migrations of the queue switched off."""

from __future__ import annotations

from tests.django.project.settings import *  # noqa: F403

MIGRATION_MODULES = {"procrastinate": None}
