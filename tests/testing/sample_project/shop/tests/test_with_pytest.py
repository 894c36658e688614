"""The fixtures of the pytest plugin, with pytest-django."""

import pytest
from django.db import connection

from shop import tasks
from shop.models import Mail, Order


@pytest.mark.django_db
def test_jobs_run_in_the_transaction_of_the_test(client, procrastinate_jobs):
    client.get("/order/?customer=kim")
    procrastinate_jobs.assert_deferred(tasks.confirm, {"lock": "customer-kim"})
    procrastinate_jobs.run()
    assert Mail.objects.get().to == "kim"
    assert connection.in_atomic_block


def test_the_fixture_db_will_do(procrastinate_jobs, db):
    assert Mail.objects.count() == 0
    tasks.send_mail.defer(to="kim")
    assert len(procrastinate_jobs.run()) == 1


@pytest.mark.django_db
async def test_async_tests_are_in_the_transaction_too(procrastinate_jobs):
    assert await Mail.objects.acount() == 0
    order = await Order.objects.acreate(customer="lee")
    await tasks.confirm.defer_async(order_id=order.pk)
    records = await procrastinate_jobs.run_async()
    assert [record.status.value for record in records] == ["succeeded", "succeeded"]
    assert (await Mail.objects.aget()).to == "lee"


@pytest.mark.django_db
@pytest.mark.parametrize("task", [tasks.confirm_once, tasks.confirm_once_async])
async def test_async_tests_run_tasks_that_commit_their_own_success(procrastinate_jobs, task):
    order = await Order.objects.acreate(customer="lee")
    await task.defer_async(order_id=order.pk)
    records = await procrastinate_jobs.run_async()
    assert [record.status.value for record in records] == ["succeeded", "succeeded"]
    assert (await Order.objects.aget()).state == "confirmed"


@pytest.mark.django_db
def test_nothing_was_committed(procrastinate_jobs):
    assert Mail.objects.count() == Order.objects.count() == 0
    procrastinate_jobs.assert_not_deferred()


@pytest.mark.django_db
def test_immediate_mode(client, procrastinate_run_at_defer):
    client.get("/order/?customer=may")
    assert Mail.objects.get().to == "may"


def test_a_worker_of_its_own(procrastinate_worker):
    order = Order.objects.create(customer="joe")
    tasks.confirm.defer(order_id=order.pk)
    procrastinate_worker.wait_until_done()
    assert Mail.objects.get().to == "joe"


async def test_a_worker_runs_jobs_of_an_async_test(procrastinate_worker):
    order = await Order.objects.acreate(customer="sue")
    await tasks.confirm_async.defer_async(order_id=order.pk)
    await procrastinate_worker.wait_until_done_async()
    assert (await Mail.objects.aget()).to == "sue"


@pytest.mark.django_db
def test_the_worker_has_left_nothing(procrastinate_jobs):
    procrastinate_jobs.assert_not_deferred()
