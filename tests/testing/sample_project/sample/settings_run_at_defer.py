"""The same project, with immediate mode for the whole suite."""

from sample.settings import *  # noqa: F403

PROCRASTINATE_RUN_AT_DEFER = True
