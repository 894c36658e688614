"""Hands on :mod:`procrastinate.adapters.django.migrations`. Django looks for migrations by the installed name."""

from __future__ import annotations

from procrastinate.adapters.django import migrations

__path__ = migrations.__path__
