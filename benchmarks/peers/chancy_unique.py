"""Pushes one job with a unique key at a time, compared with jobs without a key."""

from __future__ import annotations

from benchmarks.peers import driving
from benchmarks.peers.chancy_queue import make_app, noop


def main() -> None:
    asked = driving.request()
    driving.say("ready")
    driving.wait_for_word()
    with make_app(asked["url"]) as chancy:

        def push_plain(number: int) -> None:
            chancy.sync_push(noop.job.with_kwargs(number=number))

        def push_unique(number: int) -> None:
            key = f"key {number}" if asked["way"] == "new key" else "held"
            chancy.sync_push(noop.job.with_kwargs(number=number).with_unique_key(key))

        driving.time_both(asked["jobs"], push_plain, push_unique)


main()
