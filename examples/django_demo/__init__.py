"""A small Django shop whose views defer jobs. ``make demo`` runs it once, and ``make demo-serve`` serves it."""
