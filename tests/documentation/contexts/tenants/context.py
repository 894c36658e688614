"""Sets up what the page assumes: an app that is open."""

import contextvars  # noqa: F401
import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()


def at_the_end() -> None:
    """The task has seen its tenant, and each of Django's databases has jobs and rows of its own."""
    globals()["bill"].store_result = True
    app.run_worker(wait=False)
    (job,) = app.job_manager.list_jobs()
    assert app.job_manager.get_result(job.id or 0).value == "bill of acme"
    _django()


def _django() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import transaction
    from shop.models import Order
    from shop.orders import place_order
    from shop.queues import apps

    def run_queues() -> None:
        for one in apps.values():
            one.periodic_registry.periodic_tasks.clear()
        call_command("run_queues", one_shot=True)

    def tasks_of(alias: str) -> list[str]:
        return [job.task_name for job in apps[alias].job_manager.list_jobs(status="succeeded")]

    place_order("east")
    place_order("east")
    place_order("west")
    with transaction.atomic(using="west"):
        place_order("west")
        transaction.set_rollback(True, using="west")
    run_queues()
    assert sorted(tasks_of("east")) == ["shop:pay"] * 2 + ["shop:thank"] * 2
    assert sorted(tasks_of("west")) == ["shop:pay", "shop:thank"]
    for alias, count in (("east", 2), ("west", 1)):
        assert list(Order.objects.using(alias).values_list("state", flat=True)) == ["paid"] * count
    assert len(list(app.job_manager.list_jobs())) == 1
