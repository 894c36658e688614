"""The settings of a project that runs its tests without migrations, to save time."""

from sample.settings import *  # noqa: F403
from sample.settings import DATABASES

DATABASES["default"].setdefault("TEST", {})["MIGRATE"] = False
