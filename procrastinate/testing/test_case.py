"""For tests written as classes."""

from __future__ import annotations

import unittest

from procrastinate.app import App
from procrastinate.testing.jobs import Jobs


class JobsMixin(unittest.TestCase):
    """Gives the tests of a class ``self.jobs``: put it before ``TestCase``, of unittest or of Django::

        class OrderTests(JobsMixin, TestCase):
            def test_a_mail_is_sent(self):
                order()
                self.jobs.assert_deferred(send_mail, to="you")

    Attributes
    ----------
    procrastinate_app:
        The app, or its dotted path; ``None`` for that of a Django project.
    run_at_defer:
        Immediate mode for all tests of the class.
    """

    procrastinate_app: App | str | None = None
    run_at_defer: bool = False
    jobs: Jobs

    def setUp(self) -> None:
        """Make ``self.jobs``."""
        super().setUp()
        self.jobs = self.enterContext(Jobs(self.procrastinate_app))
        if self.run_at_defer:
            self.jobs.run_at_defer()
