"""Who may see and do what."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from procrastinate._functions.kinds import is_async_callable
from procrastinate._functions.signature import check_takes


class Permission(enum.StrEnum):
    """One thing that a visitor may do."""

    VIEW = "view"
    """See pages."""
    VIEW_ARGUMENTS = "view_arguments"
    """See arguments, results, metadata and what jobs tell of their progress, and search in arguments."""
    VIEW_ERRORS = "view_errors"
    """See the messages and tracebacks of errors, refusals of the database, and logs. They may repeat arguments."""
    RETRY = "retry"
    RERUN = "rerun"
    """Defer a job like one that has ended, or a job of a periodic task."""
    CANCEL = "cancel"
    ABORT = "abort"
    RUN_NOW = "run_now"
    """Let a scheduled job run at once."""
    STACK = "stack"
    """Ask which line of code a running job is at, and see the answer."""
    DELETE = "delete"
    """Delete a job that has ended."""
    PAUSE = "pause"
    """Pause and resume queues."""
    LIMIT = "limit"
    """Set and reset the numbers of limits."""
    BULK = "bulk"
    """Change all jobs that match a search."""


_READ = frozenset({Permission.VIEW, Permission.VIEW_ARGUMENTS, Permission.VIEW_ERRORS})
_CONFINED = frozenset({Permission.VIEW})


@dataclasses.dataclass(frozen=True)
class Access:
    """The permissions of a visitor.

    Parameters
    ----------
    permissions:
        What the visitor may do. :meth:`read_only` and :meth:`everything` are the usual sets.
    user:
        Name of the visitor for the record of actions. A number or a UUID becomes its text.

    Raises
    ------
    TypeError
        ``user`` is an object of another kind.
    """

    permissions: frozenset[Permission]
    user: str = ""

    def __post_init__(self) -> None:
        """Keep the name as text, and refuse permissions that do not exist.

        An object of a visitor is no name, and its text may hold more than that.
        """
        object.__setattr__(self, "permissions", frozenset(map(Permission, self.permissions)))
        user: Any = self.user
        if user is None or isinstance(user, int | uuid.UUID):
            object.__setattr__(self, "user", "" if user is None else str(user))
        elif not isinstance(user, str):
            raise TypeError(f"user of an Access is the name of the visitor, not {type(user).__name__}: give its name")

    @classmethod
    def nothing(cls) -> Access:
        """Return the access of a visitor who may see nothing."""
        return cls(frozenset())

    @classmethod
    def names_only(cls, user: str = "") -> Access:
        """Return the access to see all pages without arguments, results and texts of errors."""
        return cls(_CONFINED, user)

    @classmethod
    def read_only(cls, user: str = "") -> Access:
        """Return the access to see everything and change nothing."""
        return cls(_READ, user)

    @classmethod
    def everything(cls, user: str = "") -> Access:
        """Return the access to see and do everything."""
        return cls(frozenset(Permission), user)

    def may(self, permission: Permission) -> bool:
        """Return whether the visitor has a permission. Without ``VIEW``, a visitor has none."""
        return Permission.VIEW in self.permissions and permission in self.permissions

    def without_changes(self) -> Access:
        """Return the part of these permissions that changes nothing."""
        return Access(self.permissions & _READ, self.user)


Authorize: TypeAlias = "Access | Callable[[Any], Access | bool | Awaitable[Access | bool | None] | None]"
"""The access of all visitors, or a function from the request of the web framework to the access of its visitor."""


def check_authorize(authorize: Any, *, may_be_async: bool = False) -> None:
    """Refuse a missing decision on access, and a function that cannot decide.

    Raises
    ------
    TypeError
        ``authorize`` is neither an :class:`Access` nor a function that takes a request, or is async without need.
    """
    if not isinstance(authorize, Access) and not callable(authorize):
        raise TypeError(
            f"authorize takes a function from a request to an Access, or an Access for all visitors, not "
            f"{authorize!r}. For example: authorize=lambda request: Access.everything() if is_admin(request) else None"
        )
    if isinstance(authorize, Access):
        return
    if is_async_callable(authorize) and not may_be_async:
        raise TypeError(f"authorize must not be async here, because the pages are answered in sync code: {authorize!r}")
    check_takes("authorize", authorize, "request")


def to_access(decision: Any) -> Access:
    """Return the access for the answer of an ``authorize`` function.

    ``None`` and ``False`` mean that the visitor may see nothing, and ``True`` that the visitor may see everything and
    change nothing.

    Raises
    ------
    TypeError
        The answer is something else.
    """
    if isinstance(decision, Access):
        return decision
    if decision is None or decision is False:
        return Access.nothing()
    if decision is True:
        return Access.read_only()
    if inspect.iscoroutine(decision):
        decision.close()  # avoids Python's warning about a coroutine that was never awaited
    raise TypeError(f"authorize must return an Access, a bool or None, not {type(decision).__name__}")
