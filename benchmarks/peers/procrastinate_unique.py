"""Defers one unique job at a time, compared with the defer of a job without a key."""

from __future__ import annotations

from benchmarks.peers import driving
from benchmarks.peers.procrastinate_queue import add_noop_tasks, make_sync_app
from procrastinate import App, Unique
from procrastinate.jobs import JobDeferrer


def make_deferrers(app: App) -> dict[str, JobDeferrer]:
    """Return a deferrer for each way in which a unique job is deferred."""
    task = app.tasks["noop"]
    return {
        "new key": task.configure(unique=Unique()),
        "skip": task.configure(unique=Unique(by="held", on_conflict="skip")),
        "throttle": task.configure(unique=Unique(by="held for an hour", until={"hours": 1}, on_conflict="skip")),
        "debounce": task.configure(unique=Unique(by="waits", on_conflict="replace", max_wait={"hours": 1})),
        "queueing lock": task.configure(queueing_lock="held", on_conflict="skip"),
    }


def main() -> None:
    asked = driving.request()
    app = make_sync_app(asked["url"])
    add_noop_tasks(app, driving.Effects(0))
    driving.say("ready")
    driving.wait_for_word()
    with app.open():
        plain, unique = app.tasks["noop"], make_deferrers(app)[asked["way"]]

        def defer_plain(number: int) -> int:
            return plain.defer(number=number)

        def defer_unique(number: int) -> int:
            return unique.defer(number=number)

        driving.time_both(asked["jobs"], defer_plain, defer_unique)


main()
