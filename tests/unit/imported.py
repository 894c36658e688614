"""A module that exists to be imported."""
