"""Fetch jobs: when, where from, how many, and release those that do not start. Private."""

from __future__ import annotations
