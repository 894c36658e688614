"""Sets up what the page assumes: the Django project in the same folder, and its tenants."""

import asyncio
import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
django.setup()

from customers.models import Client, Domain  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.test import Client as Browser  # noqa: E402
from django_tenants.utils import tenant_context  # noqa: E402
from shop.framework_tasks import add_order  # noqa: E402
from shop.models import Order  # noqa: E402
from shop.tasks import pay_all, pay_orders  # noqa: E402

from procrastinate.contrib.django import app  # noqa: E402

acme, umbrella, initech = tenants = [Client(schema_name=name) for name in ("acme", "umbrella", "initech")]
for tenant in tenants:
    tenant.save(verbosity=0)
    Domain.objects.create(domain=f"{tenant.schema_name}.example.com", tenant=tenant)
Domain.objects.create(domain="testserver", tenant=initech)  # an AsyncClient always sends this host


def states(tenant: Client) -> list[str]:
    """Return the states of the orders of a tenant."""
    with tenant_context(tenant):
        return sorted(Order.objects.values_list("state", flat=True))


def run_jobs() -> None:
    """Run what waits. No job of a cron tick may come in between."""
    app.periodic_registry.periodic_tasks.clear()
    app.run_worker(wait=False)


def at_the_end() -> None:
    """Each job works on the rows of its tenant, whatever has deferred it. There is one set of tables of the queue."""
    run_jobs()  # the payment that the page defers for the first tenant finds no order
    assert Browser().post("/orders", headers={"host": "umbrella.example.com"}).status_code == 202
    connection.set_schema_to_public()  # the request has left its tenant on the connection of this thread
    assert asyncio.run(AsyncClient().post("/payments")).status_code == 202
    with tenant_context(acme):
        add_order.enqueue()
        Order.objects.create(state="new")
    with tenant_context(initech):
        Order.objects.create(state="new")
    run_jobs()
    assert [states(tenant) for tenant in tenants] == [["added", "new"], ["sent"], ["sent"]]
    pay_all.defer(timestamp=0)
    run_jobs()
    assert [states(tenant) for tenant in tenants] == [["added", "sent"], ["sent"], ["sent"]]
    assert {job.status for job in app.job_manager.list_jobs()} == {"succeeded"}
    assert _schemas_with("procrastinate_jobs") == ["public"]
    assert _schemas_with("shop_order") == ["acme", "initech", "umbrella"]
    _without_its_tenant()


def _schemas_with(table: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT schemaname FROM pg_tables WHERE tablename = %s ORDER BY 1", [table])
        return [name for (name,) in cursor.fetchall()]


def _without_its_tenant() -> None:
    """A job whose tenant was deleted fails."""
    with tenant_context(umbrella):
        pay_orders.defer()
    umbrella.delete(force_drop=True)
    run_jobs()
    (failed,) = app.job_manager.list_jobs(status="failed")
    (error,) = app.job_manager.get_result(failed.id or 0).errors
    assert error.exception_class == "customers.models.Client.DoesNotExist"
