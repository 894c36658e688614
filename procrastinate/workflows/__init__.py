"""Workflows: steps that run after others, groups that end together, and callbacks."""

from __future__ import annotations

from procrastinate.workflows.graph import Group, Step, Workflow

__all__ = ["Group", "Step", "Workflow"]
