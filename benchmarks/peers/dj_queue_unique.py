"""Enqueues one job that is discarded while another one has its key at a time, compared with jobs without a key."""

from __future__ import annotations

from benchmarks.peers import driving
from benchmarks.peers.dj_queue_app import asked, noop, unique


def enqueue_plain(number: int) -> None:
    noop.enqueue(number)


def enqueue_unique(number: int) -> None:
    unique.enqueue(number, asked["way"])


driving.say("ready")
driving.wait_for_word()
driving.time_both(asked["jobs"], enqueue_plain, enqueue_unique)
