"""Jobs run inside the transaction of a TestCase."""

import datetime
import time
from unittest import mock

from django.db import IntegrityError, connection
from django.test import TestCase

from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.testing import Jobs, JobsMixin
from shop import tasks
from shop.models import Mail, Order


class OrderTests(JobsMixin, TestCase):
    def setUp(self):
        super().setUp()
        tasks.gateway["down_for"] = 0

    def test_an_order_is_confirmed_and_a_mail_is_sent(self):
        placed = self.client.get("/order/?customer=bob").json()["order"]
        job = self.jobs.assert_deferred(tasks.confirm, {"priority": 3, "lock": "customer-bob"}, order_id=placed)
        self.jobs.assert_deferred(tasks.remind, {"scheduled_in": datetime.timedelta(days=1)})
        self.assertEqual(Order.objects.get().state, "new")

        first, second = self.jobs.run()

        self.assertEqual((first.job.id, first.status.value, first.result), (job.id, "succeeded", "confirmed"))
        self.assertEqual(second.job.task_name, tasks.send_mail.name)
        self.assertEqual(Order.objects.get().state, "confirmed")
        self.assertEqual(Mail.objects.get().to, "bob")
        self.assertEqual(ProcrastinateJob.objects.filter(status="succeeded").count(), 2)
        self.assertTrue(connection.in_atomic_block)

    def test_nothing_of_another_test_is_there(self):
        self.assertEqual(Mail.objects.count() + Order.objects.count(), 0)
        self.jobs.assert_not_deferred()
        self.assertEqual(self.jobs.run(), [])

    def test_async_tasks_see_the_tests_rows(self):
        order = Order.objects.create(customer="eve")
        tasks.confirm_async.defer(order_id=order.pk)
        self.assertEqual([record.result for record in self.jobs.run()][0], "confirmed")
        self.assertEqual(Mail.objects.get().to, "eve")

    def test_tasks_that_commit_their_own_success_stay_in_the_tests_transaction(self):
        for task in (tasks.confirm_once, tasks.confirm_once_async):
            order = Order.objects.create(customer="eve")
            task.defer(order_id=order.pk)
            self.assertEqual([record.status.value for record in self.jobs.run()], ["succeeded", "succeeded"])
            order.refresh_from_db()
            self.assertEqual(order.state, "confirmed")
            self.assertTrue(connection.in_atomic_block)

    def test_the_clock_is_moved_to_what_is_scheduled(self):
        self.client.get("/order/")
        self.jobs.run(tasks=tasks.confirm)
        self.assertEqual(self.jobs.run(queues=["reminders"]), [])
        self.jobs.advance(days=1)
        self.assertEqual([record.job.task_name for record in self.jobs.run(queues=["reminders"])], [tasks.remind.name])
        self.jobs.assert_deferred(tasks.send_mail, {"scheduled_in": datetime.timedelta(hours=1)}, subject="Reminder")
        self.jobs.run()
        self.assertFalse(Mail.objects.filter(subject="Reminder").exists())
        self.jobs.advance(hours=1, seconds=1)
        self.jobs.run()
        self.assertTrue(Mail.objects.filter(subject="Reminder").exists())

    def test_everything_is_run_up_to_a_time(self):
        start = self.jobs.freeze()
        self.client.get("/order/")
        self.jobs.run(until=datetime.timedelta(hours=23))
        self.assertEqual(self.jobs.now, start + datetime.timedelta(hours=23))
        self.assertFalse(Mail.objects.filter(subject="Reminder").exists())
        self.jobs.run(until="empty")
        self.assertTrue(Mail.objects.filter(subject="Reminder").exists())
        self.assertLessEqual(start + datetime.timedelta(hours=25), self.jobs.now)

    def test_a_job_that_raises_is_tried_again_when_the_time_has_come(self):
        self.jobs.freeze()
        tasks.gateway["down_for"] = 2
        order = Order.objects.create(customer="ann")
        tasks.charge.defer(order_id=order.pk)
        (first,) = self.jobs.run()
        self.assertTrue(first.is_retried)
        self.assertIsInstance(first.exception, tasks.GatewayDown)
        self.jobs.advance(seconds=599)
        self.assertEqual(self.jobs.run(), [])
        self.jobs.advance(seconds=1)
        self.assertTrue(self.jobs.run()[0].is_retried)
        (last,) = self.jobs.run(until="empty")
        self.assertEqual((last.status.value, last.job.attempts), ("succeeded", 2))
        order.refresh_from_db()
        self.assertEqual(order.state, "paid")

    def test_what_a_job_raises_is_raised(self):
        tasks.confirm.defer(order_id=0)
        tasks.count.defer(number=1)
        with self.assertRaises(Order.DoesNotExist) as raised:
            self.jobs.run()
        self.assertIn("confirm", raised.exception.__notes__[0])
        self.assertEqual(self.jobs.deferred(tasks.confirm)[0].status, "failed")
        self.assertEqual(self.jobs.deferred(tasks.count)[0].status, "todo")

    def test_what_jobs_raise_is_collected(self):
        tasks.confirm.defer(order_id=0)
        tasks.count.defer(number=1)
        failed, done = self.jobs.run(raise_errors=False)
        self.assertIsInstance(failed.exception, Order.DoesNotExist)
        self.assertEqual((failed.status.value, done.result), ("failed", 1))

    def test_a_database_error_of_a_job_leaves_the_transaction_usable(self):
        Mail.objects.create(to="ann", subject="Hello")
        tasks.send_mail.defer(to="ann")
        tasks.send_mail.defer(to="bob")
        failed, done = self.jobs.run(raise_errors=False)
        self.assertIsInstance(failed.exception, IntegrityError)
        self.assertEqual(done.status.value, "succeeded")
        self.assertEqual(Mail.objects.count(), 2)

    def test_what_a_job_asks_for_on_commit_is_done(self):
        tasks.mail_after_commit.defer(to="ann")
        self.jobs.run()
        self.assertEqual(Mail.objects.get().subject, "Committed")

    def test_a_job_that_ends_with_its_transaction(self):
        order = Order.objects.create(customer="ann")
        tasks.pay.defer(order_id=order.pk, fail=True)
        self.assertIsInstance(self.jobs.run(raise_errors=False)[0].exception, tasks.GatewayDown)
        order.refresh_from_db()
        self.assertEqual((order.state, Mail.objects.count()), ("new", 0))
        self.jobs.assert_not_deferred(tasks.send_mail)
        tasks.pay.defer(order_id=order.pk)
        self.assertEqual([record.status.value for record in self.jobs.run()], ["succeeded", "succeeded"])
        order.refresh_from_db()
        self.assertEqual((order.state, Mail.objects.count()), ("paid", 1))

    def test_a_job_has_a_context_and_no_event_loop(self):
        tasks.who.defer()
        self.assertEqual(self.jobs.run()[0].result, ["worker", 0, "no loop"])

    def test_queries_are_counted(self):
        tasks.count.defer(number=1)
        with self.assertRaises(AssertionError), self.assertNumQueries(0):
            self.jobs.run()

    def test_immediate_mode(self):
        with self.jobs.run_at_defer():
            self.client.get("/order/")
        self.assertEqual(Order.objects.get().state, "confirmed")
        self.assertEqual(Mail.objects.get().subject, "Confirmed")
        self.jobs.assert_deferred(tasks.confirm, {"status": "succeeded"})
        self.jobs.assert_deferred(tasks.remind, {"status": "todo"})
        self.client.get("/order/")
        self.assertEqual(Order.objects.filter(state="new").count(), 1)

    def test_immediate_mode_raises_what_a_job_raises_or_records_it(self):
        with self.jobs.run_at_defer(), self.assertRaises(Order.DoesNotExist):
            tasks.confirm.defer(order_id=0)
        with self.jobs.run_at_defer(raise_errors=False):
            tasks.confirm.defer(order_id=-1)
        self.jobs.assert_deferred(tasks.confirm, {"status": "failed"}, order_id=-1)

    def test_the_message_shows_what_is_there(self):
        tasks.send_mail.defer(to="bob")
        with self.assertRaises(AssertionError) as raised:
            self.jobs.assert_deferred(tasks.send_mail, {"queue": "fast"}, to="ann")
        self.assertIn("to: 'bob', expected 'ann'", str(raised.exception))
        self.assertIn("queue: 'mail', expected 'fast'", str(raised.exception))

    def test_a_thousand_jobs(self):
        tasks.count.batch_defer(*({"number": number} for number in range(1000)))
        begin = time.perf_counter()
        records = self.jobs.run()
        print(f"1,000 jobs in {time.perf_counter() - begin:.2f} s")
        self.assertEqual([record.result for record in records], list(range(1000)))


class AsyncTests(JobsMixin, TestCase):
    async def test_jobs_run_in_an_async_test(self):
        order = await Order.objects.acreate(customer="ann")
        await tasks.confirm.defer_async(order_id=order.pk)
        await tasks.confirm_async.defer_async(order_id=order.pk)
        await self.jobs.assert_deferred_async(tasks.confirm, order_id=order.pk)
        await self.jobs.assert_not_deferred_async(tasks.send_mail)
        records = await self.jobs.run_async(tasks=[tasks.confirm, tasks.confirm_async])
        self.assertEqual([record.result for record in records], ["confirmed", "confirmed"])
        self.assertEqual(len(await self.jobs.deferred_async(tasks.send_mail)), 2)

    async def test_immediate_mode(self):
        order = await Order.objects.acreate(customer="ann")
        with self.jobs.run_at_defer():
            await tasks.confirm_async.defer_async(order_id=order.pk)
        self.assertEqual((await Mail.objects.aget()).to, "ann")

    async def test_nothing_of_another_test_is_there(self):
        self.assertEqual(await Order.objects.acount(), 0)


class LimitedTests(JobsMixin, TestCase):
    def setUp(self):
        super().setUp()
        tasks.exported.clear()

    def test_jobs_in_line_run_one_after_the_other(self):
        for customer in "aab":
            tasks.export.defer(customer=customer)
        self.assertEqual(len(self.jobs.run()), 3)
        self.assertEqual(sorted(tasks.exported), list("aab"))

    def test_customers_take_turns_and_jobs_above_the_rate_stay_in_line(self):
        for customer in "aaaab":
            tasks.report.defer(customer=customer)
        self.jobs.run()
        self.assertEqual(tasks.exported, ["a", "b", "a"])
        self.assertEqual(len(self.jobs.deferred(tasks.report, {"status": "todo"})), 2)

    def test_a_job_holds_off_the_others_of_its_customer(self):
        for customer in "aab":
            tasks.call.defer(customer=customer)
        self.jobs.run()
        self.assertEqual(tasks.exported, ["a", "b"])

    def test_a_unique_job_is_deferred_once(self):
        first = tasks.digest.defer(customer="a")
        self.assertEqual(tasks.digest.defer(customer="a"), first)
        self.jobs.run()
        self.assertEqual(tasks.exported, ["a"])


class PlainTests(TestCase):
    def test_without_the_mixin(self):
        with Jobs(app) as jobs, mock.patch.object(tasks.count, "func", lambda number: number * 2):
            tasks.count.defer(number=2)
            self.assertEqual(jobs.run()[0].result, 4)
