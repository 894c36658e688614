"""Workflows: steps that wait for others, groups, callbacks, signals."""
