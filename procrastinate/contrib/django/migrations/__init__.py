"""Re-exports :mod:`procrastinate.adapters.django.migrations`, because Django uses the name of the installed app."""

from __future__ import annotations

from procrastinate.adapters.django import migrations

__path__ = migrations.__path__
