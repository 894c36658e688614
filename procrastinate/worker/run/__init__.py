"""Run one job and write its outcome. Private."""

from __future__ import annotations
