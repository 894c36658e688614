"""The router refuses writes, and keeps the queue in its database."""

from __future__ import annotations

import pytest
from django.db import router
from django.test.utils import override_settings

from procrastinate.contrib.django.exceptions import ReadOnlyModel
from procrastinate.contrib.django.models import ProcrastinateJob
from tests.django.shop.models import Order

ROUTER = {
    "DATABASE_ROUTERS": ["procrastinate.contrib.django.ProcrastinateReadOnlyRouter"],
    "PROCRASTINATE_DATABASE_ALIAS": "queue",
}


@override_settings(**ROUTER)
def test_writes_are_refused() -> None:
    """Before any query is made."""
    with pytest.raises(ReadOnlyModel):
        router.db_for_write(ProcrastinateJob)


@override_settings(**ROUTER, PROCRASTINATE_READONLY_MODELS=False)
def test_writes_go_to_the_queues_database_where_they_are_allowed() -> None:
    """By the setting that allows them on the models."""
    assert router.db_for_write(ProcrastinateJob) == "queue"


@override_settings(**ROUTER)
def test_reads_come_from_the_queues_database() -> None:
    """Those of the queue's models."""
    assert router.db_for_read(ProcrastinateJob) == "queue"


@override_settings(**ROUTER)
def test_migrations_belong_to_the_queues_database() -> None:
    """And to no other."""
    assert router.allow_migrate("queue", "procrastinate")
    assert not router.allow_migrate("default", "procrastinate")


@override_settings(**ROUTER)
def test_other_apps_are_left_alone() -> None:
    """The router has no opinion on them."""
    assert router.db_for_read(Order) == router.db_for_write(Order) == "default"
    assert router.allow_migrate("default", "shop")
