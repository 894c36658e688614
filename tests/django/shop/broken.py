"""A module of tasks with an error of its own."""

from __future__ import annotations

raise RuntimeError("this module is broken")
