"""How a call of a Celery task is stored as a job: positional arguments, and values that JSON does not have."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from procrastinate.types import JSONDict

_TYPE, _VALUE = "__type__", "__value__"
_DECODERS: dict[str, Callable[[str], Any]] = {
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
}
_ENCODED: tuple[tuple[type[datetime.date] | type[datetime.time], str], ...] = (
    (datetime.datetime, "datetime"),  # it is a date, too
    (datetime.date, "date"),
    (datetime.time, "time"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredCall:
    """A call of a task, as a producer has made it.

    Attributes
    ----------
    args, kwargs:
        What the function is called with.
    id:
        Celery's id of the message; ``None`` for a job that a stand-in has deferred.
    retries:
        How many times Celery has retried it.
    expires:
        It does not start after this time: an aware datetime.
    """

    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    id: str | None = None
    retries: int = 0
    expires: datetime.datetime | None = None

    def as_arguments(self) -> JSONDict:
        """Return the arguments of the job. Fields with their defaults are left out."""
        arguments: JSONDict = {"args": encode(list(self.args)), "kwargs": encode(dict(self.kwargs))}
        if self.id is not None:
            arguments["id"] = self.id
        if self.retries:
            arguments["retries"] = self.retries
        if self.expires is not None:
            arguments["expires"] = self.expires.isoformat()
        return arguments

    @classmethod
    def from_arguments(
        cls,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        id: str | None = None,
        retries: int = 0,
        expires: str | None = None,
        timestamp: int | None = None,
        expires_in: float | None = None,
    ) -> StoredCall:
        """Read the arguments of a job.

        Parameters
        ----------
        timestamp:
            The tick of a periodic job, in seconds since 1970. Tasks of Celery do not get it.
        expires_in:
            Seconds from the tick on, instead of ``expires``.
        """
        if timestamp is not None and expires_in is not None:
            expires = datetime.datetime.fromtimestamp(timestamp + expires_in, datetime.UTC).isoformat()
        return cls(
            args=decode(list(args)),
            kwargs=decode(dict(kwargs or {})),
            id=id,
            retries=retries,
            expires=None if expires is None else datetime.datetime.fromisoformat(expires),
        )


def encode(value: Any) -> Any:
    """Return a value with JSON in place of what Celery's JSON also carries: times, UUIDs, decimals and tuples."""
    if isinstance(value, Mapping):
        return {key: encode(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [encode(one) for one in value]
    for kind, name in _ENCODED:  # a date of another library, such as pendulum's, is a subclass
        if isinstance(value, kind):
            return {_TYPE: name, _VALUE: value.isoformat()}
    if isinstance(value, uuid.UUID | decimal.Decimal):
        return {_TYPE: "uuid" if isinstance(value, uuid.UUID) else "decimal", _VALUE: str(value)}
    return value


def decode(value: Any) -> Any:
    """Return what :func:`encode` was given, with lists for tuples."""
    if isinstance(value, list):
        return [decode(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TYPE, _VALUE} and value[_TYPE] in _DECODERS:
        return _DECODERS[value[_TYPE]](value[_VALUE])
    return {key: decode(one) for key, one in value.items()}
