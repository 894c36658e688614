"""Tests that commit, with a real worker."""

from urllib.request import urlopen

from django.test import LiveServerTestCase, TransactionTestCase

from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob
from procrastinate.testing import Jobs, WorkerThread
from shop import tasks
from shop.models import Mail, Order


class WorkerTests(TransactionTestCase):
    def tearDown(self):
        Jobs().clear()

    def test_a_worker_runs_what_is_committed(self):
        with WorkerThread() as worker:
            for customer, task in (("ann", tasks.confirm), ("bob", tasks.confirm_async)):
                task.defer(order_id=Order.objects.create(customer=customer).pk)
            worker.wait_until_done()
        self.assertEqual(set(Order.objects.values_list("state", flat=True)), {"confirmed"})
        self.assertEqual(set(Mail.objects.values_list("to", flat=True)), {"ann", "bob"})

    def test_what_a_job_raises_is_raised(self):
        with WorkerThread() as worker:
            tasks.confirm.defer(order_id=0)
            with self.assertRaises(Order.DoesNotExist):
                worker.wait_until_done()

    def test_jobs_run_without_a_worker_too(self):
        with Jobs() as jobs:
            order = Order.objects.create(customer="ann")
            tasks.confirm.defer(order_id=order.pk)
            jobs.run()
        self.assertEqual(Mail.objects.get().to, "ann")


class FlushTests(TransactionTestCase):
    """The flush deletes the first test's job, and the other test does not see it."""

    def test_a_test_finds_no_job_of_another(self):
        self._defer_one()

    def test_another_test_finds_no_job_of_the_first(self):
        self._defer_one()

    def _defer_one(self):
        tasks.confirm.defer(order_id=1)
        self.assertEqual(ProcrastinateJob.objects.count(), 1)
        self.assertEqual(ProcrastinateEvent.objects.count(), 1)


class ResetSequencesTests(TransactionTestCase):
    """Each test begins with the ids of an empty database."""

    reset_sequences = True

    def test_a_job_of_a_test_has_the_first_id(self):
        self._defer_one()

    def test_a_job_of_another_test_has_the_first_id(self):
        self._defer_one()

    def _defer_one(self):
        self.assertEqual(Order.objects.create(customer="ann").pk, 1)
        self.assertEqual(tasks.confirm.defer(order_id=1), 1)
        self.assertEqual(ProcrastinateEvent.objects.get().pk, 1)


class LiveServerTests(LiveServerTestCase):
    def tearDown(self):
        Jobs().clear()

    def test_a_request_is_followed_by_a_job(self):
        with WorkerThread() as worker:
            with urlopen(f"{self.live_server_url}/order/?customer=zoe") as response:
                self.assertEqual(response.status, 200)
            worker.wait_until_done()
        self.assertEqual(Mail.objects.get().to, "zoe")
