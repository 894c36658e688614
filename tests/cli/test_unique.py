"""``procrastinate unique``."""

from __future__ import annotations

import json

from procrastinate import App, Unique
from tests.cli.command import Command


def test_the_holder_of_a_key_is_shown_and_the_key_is_freed(database_url: str) -> None:
    command = Command(database_url)
    with App(connector=database_url).open() as app:
        task = app.configure_task("task", unique=Unique(by="k", until={"hours": 1}, on_conflict="skip"))
        job_id = task.defer()
        assert f"Job {job_id} holds the key 'k' until 20" in command.run("unique", "k", "--free").stdout
        assert task.defer() > job_id
        app.job_manager.free_unique_key("k")
    answer = json.loads(command.run("unique", "k", "--json").stdout)
    assert answer == {"key": "k", "job_id": None, "until": None, "expires_at": None}
