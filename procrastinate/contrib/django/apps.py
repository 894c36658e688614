"""Hands on :mod:`procrastinate.adapters.django.apps`."""

from __future__ import annotations

from procrastinate.adapters.django.apps import ProcrastinateConfig

__all__ = ["ProcrastinateConfig"]
