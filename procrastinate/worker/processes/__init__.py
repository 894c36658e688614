"""Processes and signals of the worker command. Private."""

from __future__ import annotations
