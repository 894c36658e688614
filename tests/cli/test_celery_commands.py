"""``procrastinate celery-bridge`` and ``celery-schedule``, given what they cannot use."""

from __future__ import annotations

import pytest

from procrastinate import cli

APP = ("--app", "tests.cli.shop.app")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command, expect a failure, and return its reasons."""
    assert cli.main([*APP, *arguments]) == 1
    return capsys.readouterr().err


def test_a_bridge_needs_a_broker_and_a_queue(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROCRASTINATE_CELERY_BROKER", raising=False)
    assert "No broker was given" in refused(capsys, "celery-bridge", "--queue", "celery")
    assert "No queue was given" in refused(capsys, "celery-bridge", "--broker", "redis://localhost")


def test_a_bridge_needs_a_url_with_a_scheme(capsys: pytest.CaptureFixture[str]) -> None:
    """Kombu takes one without for a host with RabbitMQ, and the bridge would try without an end."""
    said = refused(capsys, "celery-bridge", "--broker", "localhost", "--queue", "celery")
    assert said == "The broker's URL has no scheme: write it like redis://localhost:6379/0\n"


def test_a_schedule_is_read_from_an_app_or_a_dict(capsys: pytest.CaptureFixture[str]) -> None:
    assert "is neither a Celery app nor a beat_schedule" in refused(capsys, "celery-schedule", "tests.cli.shop.app")
    assert "Cannot import 'nowhere'" in refused(capsys, "celery-schedule", "nowhere.app")
    assert cli.main(["celery-schedule", "tests.cli.test_celery_commands.BEAT_SCHEDULE"]) == 0
    assert "cron='* * * * *'" in capsys.readouterr().out


BEAT_SCHEDULE = {"minutely": {"task": "shop.report", "schedule": 60}}
