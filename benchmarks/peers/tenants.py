"""The numbers that the programs for jobs with limits share with their cases."""

RATE = 200
"""Starts a second of the rate that is reached."""
TENANTS = 50
"""The number of small tenants, which come after a big one."""
SMALL = 20
"""The number of jobs of each of them, the last ones."""
