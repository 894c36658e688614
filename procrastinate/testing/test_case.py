"""A mixin for test classes."""

from __future__ import annotations

import unittest

from procrastinate.app import App
from procrastinate.testing.jobs import Jobs


class JobsMixin(unittest.TestCase):
    """Gives each test of a class ``self.jobs``. Put it before the ``TestCase`` of unittest or Django::

        class OrderTests(JobsMixin, TestCase):
            def test_a_mail_is_sent(self):
                order()
                self.jobs.assert_deferred(send_mail, to="you")

    Attributes
    ----------
    procrastinate_app:
        The app or its dotted path. ``None`` means the app of the Django project.
    run_at_defer:
        True to run jobs when they are deferred, in all tests of the class.
    """

    procrastinate_app: App | str | None = None
    run_at_defer: bool = False
    jobs: Jobs

    def setUp(self) -> None:
        """Create ``self.jobs``."""
        super().setUp()
        self.jobs = self.enterContext(Jobs(self.procrastinate_app))
        if self.run_at_defer:
            self.jobs.run_at_defer()
