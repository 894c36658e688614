"""An encoder for arguments that are not plain JSON, and the decoder that reads them by annotation.

Pass both to a connector: ``json_dumps=procrastinate.json.dumps, json_loads=procrastinate.json.loads``. The stored text
is plain JSON without marks of types. A worker turns each argument into the type that its parameter is annotated with.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import json
import pathlib
import types
import typing
import uuid
from collections import abc
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from procrastinate import exceptions
from procrastinate._text.logs import get_logger

__all__ = ["dumps", "loads"]

logger = get_logger(__name__)

_Convert: TypeAlias = Callable[[Any], Any]
"""Function that turns a decoded value into the annotated type."""


def dumps(value: Any) -> str:
    """Return the value as JSON text.

    ``datetime``, ``date`` and ``time`` become text in ISO 8601, and a ``timedelta`` becomes a number of seconds.
    ``UUID``, ``Decimal`` and paths become text. An ``Enum`` becomes its value. Sets become lists. Dataclasses and
    pydantic models become objects, without computed fields.

    Raises
    ------
    TypeError
        A value has another type, or a pydantic model holds a secret, which pydantic writes as asterisks.
    """
    return json.dumps(value, default=_plain)


def loads(text: str) -> Any:
    """Return the value of JSON text. A worker whose connector has this function reads arguments by their annotations.

    Arguments of a type that :func:`dumps` writes get that type back, and so do items of lists, tuples, sets and dicts,
    and fields of dataclasses. A ``datetime`` stays a ``datetime`` under the annotation ``date``. An argument without
    annotation stays as it is, and so does a union of two types. ``None`` stays ``None``.
    """
    return json.loads(text)


def _plain(value: Any) -> Any:
    """Return a value that stands for this one in JSON."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, uuid.UUID | decimal.Decimal | pathlib.PurePath):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=dumps)  # locks are made of this text, so it must not depend on hashes
    if _is_pydantic(type(value)):
        _refuse_secrets(type(value).__name__, value.model_dump(warnings=False))
        return value.model_dump(mode="json", round_trip=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _refuse_secrets(model: str, value: Any) -> None:
    """Refuse the ``SecretStr`` and others of its kind in what a model holds."""
    if hasattr(value, "get_secret_value"):
        raise TypeError(f"{model} holds a {type(value).__name__}, of which pydantic writes asterisks")
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple | set | frozenset):
        return
    for one in value:
        _refuse_secrets(model, one)


def is_encodable(value: Any) -> bool:
    """Return true if :func:`dumps` accepts the value."""
    try:
        dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


class ArgumentTypes:
    """The conversions of a function's arguments, read from its annotations once."""

    def __init__(self, function: Callable[..., Any]) -> None:
        kinds = dict(_annotations_of(function))
        found = {name: _conversion(kind) for name, kind in kinds.items()}
        self._conversions = {name: convert for name, convert in found.items() if convert is not None}
        self._unread = {name: kind.reason for name, kind in kinds.items() if isinstance(kind, _Unread)}

    def prove(self, task_name: str, arguments: Mapping[str, Any]) -> None:
        """Prove that a worker can read what :func:`dumps` writes of these arguments. Plain JSON needs no proof.

        Raises
        ------
        InvalidJob
            A value does not come back in the annotated type, or comes back without some of its fields.
        """
        for name, value in arguments.items():
            if name in self._conversions and not isinstance(value, _PLAIN):
                self._prove_one(task_name, name, value)

    def _prove_one(self, task_name: str, name: str, value: Any) -> None:
        try:
            text, written = _dumps_noting(value)
        except (TypeError, ValueError, RecursionError):
            return  # the defer refuses it, or it stands for the result of a step
        if not written:
            return
        _, again = _dumps_noting(self._read_one(task_name, name, json.loads(text)))
        for given, read in zip(_models(written), _models(again), strict=False):
            lost = given.model_fields.keys() - read.model_fields.keys() if issubclass(given, read) else set()
            if lost:
                raise exceptions.InvalidJob(
                    f"Argument {name!r} of task {task_name} is a {given.__name__}, which would come back as "
                    f"{read.__name__}, without {', '.join(sorted(lost))}: annotate the parameter with "
                    f"{given.__name__}, or pass a {read.__name__}"
                )

    def read(self, task_name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments in the annotated types.

        Raises
        ------
        InvalidJob
            A value cannot be converted. The message names the argument.
        """
        return {name: self._read_one(task_name, name, value) for name, value in arguments.items()}

    def _read_one(self, task_name: str, name: str, value: Any) -> Any:
        convert = self._conversions.get(name)
        if convert is None:
            if name in self._unread:
                self._warn_once(task_name, name)
            return value
        try:
            return convert(value)
        except Exception as error:
            raise exceptions.InvalidJob(
                f"Argument {name!r} of task {task_name} does not fit its annotation: {type(error).__name__}: {error}"
            ) from error

    def _warn_once(self, task_name: str, name: str) -> None:
        """Log that the annotation of an argument has no effect."""
        message = (
            "Task %s gets its argument %r as plain JSON, because its annotation cannot be read here (%s): import what "
            "it names outside of `if TYPE_CHECKING`"
        )
        extra = {"action": "annotation_unread", "task": task_name}
        logger.warning(message, task_name, name, self._unread.pop(name, ""), extra=extra)


_PLAIN = (str, int, float, type(None))


def _dumps_noting(value: Any) -> tuple[str, list[Any]]:
    """Return the JSON text of a value, and what of it is not plain JSON."""
    noted: list[Any] = []

    def plain(one: Any) -> Any:
        noted.append(one)
        return _plain(one)

    return json.dumps(value, default=plain), noted


def _models(values: list[Any]) -> list[Any]:
    """Return the pydantic classes of these values. A dataclass needs no look, it refuses fields that it has not."""
    return [type(one) for one in values if _is_pydantic(type(one))]


@dataclasses.dataclass(frozen=True)
class _Unread:
    """An annotation that only a type checker can read."""

    reason: str


def _annotations_of(function: Callable[..., Any]) -> abc.Iterator[tuple[str, Any]]:
    """Yield the name of each annotated parameter, with its type or :class:`_Unread`."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not hasattr(function, "__annotations__"):
        function = type(function).__call__
    for name, kind in _hints(function, getattr(function, "__globals__", {})):
        if name != "return":
            yield name, kind


def _hints(annotated: Any, names: dict[str, Any]) -> abc.Iterator[tuple[str, Any]]:
    """Yield each annotation, resolved, or as :class:`_Unread`."""
    for name, annotation in getattr(annotated, "__annotations__", {}).items():
        alone: Any = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            yield name, typing.get_type_hints(alone, names)[name]
        except Exception as error:
            yield name, _Unread(f"{type(error).__name__}: {error}")


def _conversion(kind: Any) -> _Convert | None:
    """Return the conversion to a type, or ``None`` if JSON has the type itself or the type is not supported."""
    kind = _without_names(kind)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        others = [one for one in inner if one is not type(None)]
        return _conversion(others[0]) if len(others) == 1 else None
    convert = _of_class(kind) if isinstance(kind, type) and origin is None else _of_container(origin, inner)
    return None if convert is None else functools.partial(_unless_none, convert)


def _without_names(kind: Any) -> Any:
    """Return the type behind ``Annotated``, ``NewType`` and the ``type`` statement."""
    while True:
        if typing.get_origin(kind) is typing.Annotated:
            kind = typing.get_args(kind)[0]
        elif hasattr(kind, "__supertype__"):
            kind = kind.__supertype__
        elif type(kind).__name__ == "TypeAliasType":
            kind = kind.__value__
        else:
            return kind


def _unless_none(convert: _Convert, value: Any) -> Any:
    return None if value is None else convert(value)


_SCALARS: tuple[tuple[type, _Convert], ...] = (
    (datetime.datetime, datetime.datetime.fromisoformat),
    (datetime.date, lambda text: (datetime.datetime if "T" in text else datetime.date).fromisoformat(text)),
    (datetime.time, datetime.time.fromisoformat),
    (datetime.timedelta, lambda seconds: datetime.timedelta(seconds=seconds)),
    (uuid.UUID, uuid.UUID),
    (decimal.Decimal, lambda value: decimal.Decimal(str(value))),
)


def _of_class(kind: type) -> _Convert | None:
    for known, convert in _SCALARS:
        if kind is known:
            return convert
    if issubclass(kind, enum.Enum):
        return functools.partial(_member, kind)
    if issubclass(kind, pathlib.PurePath):
        return kind
    if kind in (set, frozenset, tuple):
        return kind
    if _is_pydantic(kind):
        return _validate(kind)
    if dataclasses.is_dataclass(kind):
        return _Fields(kind)
    return None


def _member(kind: type[enum.Enum], stored: Any) -> enum.Enum:
    """Return the member whose value has this JSON. The value of a member may be a tuple, a date or a dataclass."""
    try:
        return kind(stored)
    except ValueError:
        for member in kind:
            if is_encodable(member.value) and json.loads(dumps(member.value)) == stored:
                return member
        raise


def _validate(kind: Any) -> _Convert:
    """Return the method that makes a model. It also reads names of fields, which :func:`dumps` writes, for aliases."""
    validate: Callable[..., Any] = kind.model_validate
    if "by_name" in inspect.signature(validate).parameters:  # since pydantic 2.11
        return functools.partial(validate, by_name=True)
    return validate


def _is_pydantic(kind: type) -> bool:
    return hasattr(kind, "model_dump") and hasattr(kind, "model_validate")


class _Fields:
    """Makes a dataclass from a dict. Its fields are read at the first use, because it may contain itself."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    @functools.cached_property
    def _conversions(self) -> dict[str, _Convert]:
        found: dict[str, _Convert] = {}
        for one in reversed(self._kind.__mro__):
            names = vars(inspect.getmodule(one) or types.ModuleType(""))
            found |= {name: convert for name, kind in _hints(one, names) if (convert := _conversion(kind)) is not None}
        return found

    def __call__(self, value: Any) -> Any:
        given = {name: one for name, one in dict(value).items() if name not in self._made_by_itself}
        return self._kind(**{name: self._conversions.get(name, _as_it_is)(one) for name, one in given.items()})

    @functools.cached_property
    def _made_by_itself(self) -> set[str]:
        """The fields that its ``__init__`` does not take."""
        return {field.name for field in dataclasses.fields(self._kind) if not field.init}


def _as_it_is(value: Any) -> Any:
    return value


_SEQUENCES: dict[Any, _Convert] = {
    list: list,
    abc.Sequence: list,
    abc.Iterable: list,
    abc.Collection: list,
    set: set,
    frozenset: frozenset,
    abc.Set: frozenset,
}


def _of_container(origin: Any, inner: tuple[Any, ...]) -> _Convert | None:
    if origin is tuple and not (len(inner) == 2 and inner[1] is Ellipsis):
        each = [_conversion(one) or _as_it_is for one in inner]
        return lambda values: tuple(convert(one) for convert, one in zip(each, values, strict=True))
    if origin is tuple or origin in _SEQUENCES:
        make: _Convert = tuple if origin is tuple else _SEQUENCES[origin]
        item = _conversion(inner[0])
        if item is None:
            return None if make is list else make
        return lambda values: make(item(one) for one in values)
    if origin in (dict, abc.Mapping, abc.MutableMapping):
        return _of_mapping(*inner)
    return None


def _of_mapping(key_kind: Any, value_kind: Any) -> _Convert | None:
    key, value = _conversion(key_kind), _conversion(value_kind)
    if key is None and value is None:
        return None
    make_key, make_value = key or _as_it_is, value or _as_it_is
    return lambda given: {make_key(name): make_value(one) for name, one in given.items()}
