"""One suite of the operations' behaviour, run on every kind of connection.

The tests of this package take a fixture ``run`` (:class:`tests.conformance.runs.Run`). A test package for another
kind of connection defines ``run`` in its own ``conftest.py`` and imports the tests::

    from tests.conformance.test_defer import *
"""
