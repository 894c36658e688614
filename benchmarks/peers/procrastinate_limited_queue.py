"""The app of the programs for jobs with limits and locks."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.driving import Effects
from benchmarks.peers.tenants import RATE, SMALL, TENANTS
from procrastinate import App, Limit, PsycopgConnector, Rate

_KEYS = 1000
_TASKS: dict[str, dict[str, Any]] = {
    "free": {},
    "hot_ten": {"limit": Limit("hot_ten", concurrency=10)},
    "hot_one": {"limit": Limit("hot_one", concurrency=1)},
    "locked": {"lock": "one"},
    "keys": {"limit": Limit("keys", by=lambda kwargs: str(kwargs["number"] % _KEYS), concurrency=10)},
    "rated": {"limit": Limit("rated", rate=Rate(1_000_000, per=1))},
    "slowed": {"limit": Limit("slowed", rate=Rate(RATE, per=1))},
}
"""The options of each task, by its name."""


def _tasks_of_tenants(jobs: int) -> dict[str, dict[str, Any]]:
    def tenant(arguments: dict[str, Any]) -> str:
        place = arguments["number"] - (jobs - TENANTS * SMALL)
        return "big" if place < 0 else f"small {place // SMALL}"

    return {
        "fair": {"limit": Limit("fair", by=tenant, fair=True)},
        "tenants": {"limit": Limit("tenants", by=tenant, concurrency=10)},
    }


def make_limited_app(url: str, effects: Effects) -> App:
    """Return an app with a task for each way to limit jobs. The tasks only count their runs."""
    app = App(connector=PsycopgConnector(conninfo=url, min_size=2, max_size=25))
    tasks = _TASKS | _tasks_of_tenants(len(effects.runs))

    async def run(number: int) -> None:
        effects.add(number)

    for name, options in tasks.items():
        app.task(name=name, **options)(run)
    return app
