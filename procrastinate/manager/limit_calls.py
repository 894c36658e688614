"""The limits of an app, as ``app.limits``: list them, look at a key, let other numbers hold."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, TypeAlias

from procrastinate import core, exceptions
from procrastinate._checks.names import check_lock, check_name
from procrastinate.limits import ONE_KEY, read_definition
from procrastinate.manager.operation_calls import OperationCalls
from procrastinate.rates import Rates

_KIND = "name of the limit"
StoredLimits: TypeAlias = "list[core.StoredLimit]"


class Limits:
    """The limits in the database, available as ``app.limits``.

    Each method runs on the app's connector, or on the open connection that ``connection`` gives, inside its
    transaction.
    """

    def __init__(self, calls: OperationCalls) -> None:
        self._calls = calls

    def list(self, *, connection: Any | None = None) -> StoredLimits:
        """Return the limits by name, with the numbers of their jobs. A limit that only jobs name is not defined."""
        return self._calls._run(connection, core.list_limits)

    async def list_async(self, *, connection: Any | None = None) -> StoredLimits:
        """Asynchronous version of :meth:`list`."""
        return await self._calls._run_async(connection, core.list_limits)

    def show(self, name: str, key: str = ONE_KEY, *, connection: Any | None = None) -> core.LimitKey:
        """Return the numbers of the jobs of one key: how many have a slot, run, and wait, and the next start.

        Parameters
        ----------
        key:
            What ``by`` makes of a job's arguments. The default is the key of a limit without ``by``.
        """
        return self._calls._run(connection, core.show_limit, *_place(name, key))

    async def show_async(self, name: str, key: str = ONE_KEY, *, connection: Any | None = None) -> core.LimitKey:
        """Asynchronous version of :meth:`show`."""
        return await self._calls._run_async(connection, core.show_limit, *_place(name, key))

    def set(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        total: int | None = None,
        rate: Rates | None = None,
        total_rate: Rates | None = None,
        allow_undefined: bool = False,
        connection: Any | None = None,
    ) -> None:
        """Let other numbers hold than those of the code, until :meth:`reset`. ``None`` leaves a number as it is.

        A lower number stops no job. No further job starts until fewer are running. A rate that is set replaces all
        rates of the code of its kind. Starts before a rate was defined, or before the longest window so far, are not
        counted.

        Parameters
        ----------
        allow_undefined:
            Set the numbers also if no worker has defined a limit of this name yet.

        Raises
        ------
        TypeError, ValueError
            A number is no whole number or is below 1, a rate is none, nothing is given, or no worker has defined the
            limit.
        """
        definition = _definition(name, concurrency, total, rate, total_rate)
        if not allow_undefined:
            _check_defined(name, self._calls._run(connection, core.list_defined_limits))
        self._calls._run(connection, core.set_limit, definition)

    async def set_async(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        total: int | None = None,
        rate: Rates | None = None,
        total_rate: Rates | None = None,
        allow_undefined: bool = False,
        connection: Any | None = None,
    ) -> None:
        """Asynchronous version of :meth:`set`."""
        definition = _definition(name, concurrency, total, rate, total_rate)
        if not allow_undefined:
            _check_defined(name, await self._calls._run_async(connection, core.list_defined_limits))
        await self._calls._run_async(connection, core.set_limit, definition)

    def reset(self, name: str, *, connection: Any | None = None) -> None:
        """Let the numbers of the code hold again.

        Raises
        ------
        ValueError
            There is no limit of this name.
        """
        check_name(_KIND, name)
        if not self._calls._run(connection, core.reset_limit, name):
            raise _unknown(name)

    async def reset_async(self, name: str, *, connection: Any | None = None) -> None:
        """Asynchronous version of :meth:`reset`."""
        check_name(_KIND, name)
        if not await self._calls._run_async(connection, core.reset_limit, name):
            raise _unknown(name)


def _place(name: str, key: str) -> tuple[str, str]:
    check_name(_KIND, name)
    if key is None:
        raise exceptions.InvalidJob("The key of the limit must be a str, not None")
    check_lock("key of the limit", key)
    return name, key


def _definition(name: str, concurrency: Any, total: Any, rate: Any, total_rate: Any) -> core.LimitDefinition:
    check_name(_KIND, name)
    definition = read_definition(name, concurrency=concurrency, total=total, rate=rate, total_rate=total_rate)
    if definition == core.LimitDefinition(name=name):
        raise ValueError(f"Nothing to set for the limit {name!r}: give concurrency=, total=, rate= or total_rate=")
    return definition


def _check_defined(name: str, defined: Sequence[str]) -> None:
    if name in defined:
        return
    similar = difflib.get_close_matches(name, defined, n=1)
    hint = f": did you mean {similar[0]!r}?" if similar else "."
    raise ValueError(
        f"No worker has defined a limit {name!r}{hint} To set a limit before its first worker starts, use "
        "allow_undefined=True, or --allow-undefined on the command line"
    )


def _unknown(name: str) -> ValueError:
    return ValueError(f"There is no limit {name!r}: no worker has defined it. See app.limits.list()")
