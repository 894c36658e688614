"""Look at the functions of tasks: how they are called, where they are imported from. Private."""

from __future__ import annotations
