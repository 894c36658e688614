"""A module that cannot be imported."""

int("x")
