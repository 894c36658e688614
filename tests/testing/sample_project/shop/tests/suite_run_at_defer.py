"""What jobs do in a suite with immediate mode in its settings; run by its path."""

import pytest

from shop import tasks
from shop.models import Mail, Order


@pytest.mark.django_db
def test_a_request_is_followed_by_its_jobs(client):
    client.get("/order/?customer=ann")
    assert Order.objects.get().state == "confirmed"
    assert Mail.objects.get().subject == "Confirmed"


@pytest.mark.django_db
def test_what_a_job_raises_comes_out_of_defer():
    with pytest.raises(Order.DoesNotExist):
        tasks.confirm.defer(order_id=0)


@pytest.mark.django_db
async def test_async_code_too(procrastinate_jobs):
    await tasks.confirm_async.defer_async(order_id=(await Order.objects.acreate(customer="eve")).pk)
    assert (await Mail.objects.aget()).to == "eve"
    await procrastinate_jobs.assert_deferred_async(tasks.confirm_async, {"status": "succeeded"})
