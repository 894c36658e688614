"""A small Django shop whose views defer jobs. ``make demo`` runs it, ``make demo-serve`` serves it."""
