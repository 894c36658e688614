"""Results and waiting, in a Django project."""

from __future__ import annotations

import threading

import pytest
from django.db import connections, transaction

from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateError, ProcrastinateResult
from procrastinate.core import Status
from procrastinate.exceptions import JobNotCommitted, NoResult
from tests.django.shop.models import Order
from tests.django.shop.tasks import fail, ship

pytestmark = pytest.mark.usefixtures("project")


def _run_worker() -> None:
    app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)
    connections.close_all()


@pytest.mark.parametrize("savepoint", [False, True])
def test_a_wait_in_the_transaction_that_defers_says_so(savepoint: bool) -> None:
    """It would wait in vain; the transaction stays usable."""
    with transaction.atomic():
        if savepoint:
            with transaction.atomic():
                job_id = ship.defer(order_id=1)
        else:
            job_id = ship.defer(order_id=1)
        with pytest.raises(JobNotCommitted, match="commit first, then wait"):
            app.job_manager.wait(job_id, timeout=60)
        Order.objects.create(product="usable")
    assert app.job_manager.get_job_status(job_id) is Status.TODO


def test_a_wait_in_a_transaction_for_a_job_committed_before() -> None:
    job_id = ship.defer(order_id=1)
    worker = threading.Timer(0.5, _run_worker)
    with transaction.atomic():
        Order.objects.create(product="first")  # the transaction has a number, before the job has ended
        worker.start()
        assert app.job_manager.wait(job_id, timeout=60).status is Status.SUCCEEDED
    worker.join()


def test_a_wait_for_a_job_that_was_rolled_back() -> None:
    with transaction.atomic():
        job_id = ship.defer(order_id=1)
        transaction.set_rollback(True)
    with pytest.raises(NoResult, match=f"There is no job {job_id}"):
        app.job_manager.wait(job_id, timeout=60)


def test_the_models_show_results_and_errors() -> None:
    @app.task(name="shop.count", store_result=True)
    def count() -> dict[str, int]:
        return {"orders": Order.objects.count()}

    try:
        counted, failed = count.defer(), fail.defer()
        _run_worker()
    finally:
        del app.tasks["shop.count"]
    assert ProcrastinateResult.objects.get(pk=counted).value == {"orders": 0}
    error = ProcrastinateError.objects.get(job_id=failed)
    assert (error.exception_class, error.message, error.attempt) == ("builtins.ValueError", "on purpose", 1)
    assert list(error.job.errors.all()) == [error]
