"""The project, with a slip of the pen in its settings."""

from __future__ import annotations

from tests.django.project.settings import *  # noqa: F403

PROCRASTINATE_DATABASE_ALAIS = "default"
