"""Arguments of common types are stored as plain JSON and come back by annotation."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import pathlib
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, NewType

import pydantic
import pytest
from pydantic.alias_generators import to_camel

import procrastinate.json
from procrastinate import exceptions
from procrastinate._job_checks import dump_args, dump_result
from procrastinate.json import ArgumentTypes
from procrastinate.locks import by_arguments
from procrastinate.testing import InMemoryConnector, Jobs

if TYPE_CHECKING:
    from somewhere import Unknown

ID = uuid.UUID(int=7)
NOON = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)
OrderId = NewType("OrderId", uuid.UUID)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass(frozen=True)
class Line:
    price: decimal.Decimal
    on: datetime.date | None = None
    total: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Order:
    id: uuid.UUID
    lines: list[Line]
    parent: Order | None = None


@dataclasses.dataclass
class LargeOrder(Order):
    note: str = ""


class Address(pydantic.BaseModel):
    city: str
    since: datetime.date


def all_kinds(
    id: uuid.UUID,
    at: datetime.datetime,
    day: datetime.date,
    hour: datetime.time,
    wait: datetime.timedelta,
    price: decimal.Decimal,
    colour: Colour,
    level: Level,
    path: pathlib.Path,
    order: LargeOrder,
    address: Address,
    perhaps: uuid.UUID | None,
    optional: typing.Optional[uuid.UUID],  # noqa: UP045
    named: OrderId,
    noted: Annotated[uuid.UUID, "of an order"],
    several: list[uuid.UUID],
    read_only: Sequence[uuid.UUID],
    pair: tuple[uuid.UUID, int],
    many: tuple[uuid.UUID, ...],
    unique: set[uuid.UUID],
    words: frozenset[str],
    prices: dict[str, decimal.Decimal],
    by_id: Mapping[uuid.UUID, str],
    plain: int,
    either: uuid.UUID | str,
    of_checker: Unknown,
    untyped,  # type: ignore[no-untyped-def]
) -> datetime.date: ...


VALUES: dict[str, Any] = {
    "id": ID,
    "at": NOON,
    "day": NOON.date(),
    "hour": datetime.time(4, 30),
    "wait": datetime.timedelta(seconds=1.5),
    "price": decimal.Decimal("1.10"),
    "colour": Colour.RED,
    "level": Level.HIGH,
    "path": pathlib.Path("a/b"),
    "order": LargeOrder(ID, [Line(decimal.Decimal("0.1"), NOON.date())], Order(ID, []), "soon"),
    "address": Address(city="Bern", since=NOON.date()),
    "perhaps": None,
    "optional": ID,
    "named": ID,
    "noted": ID,
    "several": [ID, ID],
    "read_only": [ID],
    "pair": (ID, 1),
    "many": (ID, ID, ID),
    "unique": {ID},
    "words": frozenset({"a", "b"}),
    "prices": {"a": decimal.Decimal(2)},
    "by_id": {ID: "x"},
    "plain": 1,
}


def stored_and_read(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    text = dump_args("t", arguments, procrastinate.json.dumps)
    return ArgumentTypes(function).read("t", procrastinate.json.loads(text))


@pytest.mark.parametrize("name", sorted(VALUES.keys() - {"by_id"}))
def test_an_argument_comes_back_in_its_annotated_type(name: str) -> None:
    read = stored_and_read(all_kinds, {name: VALUES[name]})[name]
    assert (read, type(read)) == (VALUES[name], type(VALUES[name]))


class Planet(enum.Enum):
    EARTH = (5.976e24, 6.37814e6)


class Holiday(enum.Enum):
    MAY = datetime.date(2026, 5, 1)


class Rate(decimal.Decimal, enum.Enum):
    FULL = decimal.Decimal("0.19")


class Packing(enum.Enum):
    FIRST = Line(decimal.Decimal(1))
    NONE = object()


class Named(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=to_camel)
    first_name: str


class Box(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    width: int
    raw: pydantic.Json[list[int]] = pydantic.Field(default_factory=list)

    @pydantic.computed_field
    def area(self) -> int:
        return self.width**2


def hard_kinds(
    planet: Planet,
    holiday: Holiday,
    rate: Rate,
    packing: Packing,
    day: datetime.date,
    named: Named,
    box: Box,
) -> None: ...


HARD_VALUES: dict[str, Any] = {
    "planet": Planet.EARTH,
    "holiday": Holiday.MAY,
    "rate": Rate.FULL,
    "packing": Packing.FIRST,
    "day": NOON,
    "named": Named(firstName="Ada"),
    "box": Box(width=2),
}


@pytest.mark.parametrize("name", sorted(HARD_VALUES))
def test_a_value_whose_json_looks_like_another_comes_back(name: str) -> None:
    """An enum of tuples or dates, a datetime for a date, and a model with aliases or computed fields."""
    read = stored_and_read(hard_kinds, {name: HARD_VALUES[name]})[name]
    assert (read, type(read)) == (HARD_VALUES[name], type(HARD_VALUES[name]))


def test_keys_of_a_dict_come_back_in_their_annotated_type() -> None:
    assert ArgumentTypes(all_kinds).read("t", {"by_id": {str(ID): "x"}}) == {"by_id": {ID: "x"}}


@pytest.mark.parametrize("name", ["either", "of_checker", "untyped", "return", "more"])
def test_an_argument_without_one_known_type_stays_as_it_is(name: str) -> None:
    assert stored_and_read(all_kinds, {name: ID}) == {name: str(ID)}


def test_a_warning_names_an_argument_whose_annotation_only_a_type_checker_can_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connector = InMemoryConnector(json_dumps=procrastinate.json.dumps, json_loads=procrastinate.json.loads)
    app = procrastinate.App(connector=connector)

    @app.task(name="refund", pass_context=True)
    def refund(context: Unknown, id: uuid.UUID, order: Unknown) -> Unknown: ...

    with Jobs(app) as jobs:
        refund.batch_defer({"id": ID, "order": 1}, {"id": ID, "order": 2})
        jobs.run()
    (warning,) = (record for record in caplog.records if getattr(record, "action", "") == "annotation_unread")
    assert "Task refund gets its argument 'order' as plain JSON" in warning.getMessage()
    assert "name 'Unknown' is not defined" in warning.getMessage()


def test_annotations_are_found_behind_wrappers() -> None:
    def injected(session: str, id: uuid.UUID) -> None: ...

    class Callable_:
        def __call__(self, id: uuid.UUID) -> None: ...

    @functools.wraps(injected)
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    for function in (wrapper, functools.partial(injected, "session"), Callable_()):
        assert stored_and_read(function, {"id": ID}) == {"id": ID}


def test_a_value_that_does_not_fit_its_annotation_names_the_argument() -> None:
    with pytest.raises(exceptions.InvalidJob, match="Argument 'id' of task t does not fit its annotation: ValueError"):
        ArgumentTypes(all_kinds).read("t", {"id": "seven"})


class Login(pydantic.BaseModel):
    user: str
    passwords: list[pydantic.SecretStr]


class Event(pydantic.BaseModel):
    id: int


class OrderPaid(Event):
    amount: int


class Unreadable(pydantic.BaseModel):
    stored_as: int = pydantic.Field(serialization_alias="x")
    model_config = pydantic.ConfigDict(serialize_by_alias=True)


def refused_kinds(
    login: Login, event: Event, events: list[Event], line: Line, id: uuid.UUID, unreadable: Unreadable, plain: Any
) -> None: ...


REFUSED: dict[str, tuple[str, Any]] = {
    "a secret": ("login", Login(user="ada", passwords=[pydantic.SecretStr("hunter2")])),
    "a subclass": ("event", OrderPaid(id=1, amount=99)),
    "a subclass in a list": ("events", [Event(id=1), OrderPaid(id=1, amount=99)]),
    "a subclass of a dataclass": ("line", make_dataclass("More", [("more", int, 1)], bases=(Line,), frozen=True)(1)),
    "another type": ("id", NOON),
    "a model that does not read what it writes": ("unreadable", Unreadable(stored_as=1)),
}


@pytest.mark.parametrize(("name", "value"), REFUSED.values(), ids=REFUSED)
def test_a_defer_refuses_a_value_that_would_not_come_back(name: str, value: Any) -> None:
    connector = InMemoryConnector(json_dumps=procrastinate.json.dumps, json_loads=procrastinate.json.loads)
    app = procrastinate.App(connector=connector)
    task = app.task(name="t")(refused_kinds)
    good = {
        "login": Login(user="ada", passwords=[]),
        "event": Event(id=1),
        "events": [{"id": 1, "more": 2}],
        "line": Line(decimal.Decimal(1)),
        "id": ID,
        "unreadable": {"stored_as": 1},
        "plain": OrderPaid(id=1, amount=99),
    }
    task.defer(**good)
    with pytest.raises(exceptions.InvalidJob, match=f"Argument '{name}' of task t"):
        task.defer(**good | {name: value})
    with pytest.raises(exceptions.InvalidJob, match=f"Argument '{name}' of task t"):
        task.batch_defer(good, good | {name: value})
    with pytest.raises(exceptions.InvalidJob, match=f"Argument '{name}' of task t"):
        task.configure(lock=by_arguments("id")).defer(**good | {name: value})


def test_a_step_may_take_the_result_of_another_for_a_typed_argument() -> None:
    connector = InMemoryConnector(json_dumps=procrastinate.json.dumps, json_loads=procrastinate.json.loads)
    app = procrastinate.App(connector=connector)
    got: list[Any] = []

    @app.task(store_result=True)
    def make() -> uuid.UUID:
        return ID

    @app.task
    def use(id: uuid.UUID) -> None:
        got.append(id)

    workflow = app.workflow("make and use")
    made = workflow.add(make)
    workflow.add(use, id=made.value)
    with Jobs(app) as jobs:
        workflow.defer()
        jobs.run()
    assert got == [ID]


def test_a_set_has_one_text_whatever_its_order() -> None:
    dumped = procrastinate.json.dumps(set("hgfedcba"))
    assert dumped == '["a", "b", "c", "d", "e", "f", "g", "h"]'


def test_a_lock_by_argument_takes_such_values() -> None:
    connector = InMemoryConnector(json_dumps=procrastinate.json.dumps, json_loads=procrastinate.json.loads)
    app = procrastinate.App(connector=connector)

    @app.task(lock=by_arguments("id"))
    def send(id: uuid.UUID) -> None: ...

    send.defer(id=ID)
    assert str(ID) in str(next(iter(app.job_manager.list_jobs())).lock)


def test_the_error_for_such_a_value_names_the_encoder() -> None:
    with pytest.raises(exceptions.InvalidJob, match=r"json_dumps=procrastinate\.json\.dumps, json_loads="):
        dump_args("t", {"id": ID}, procrastinate.json.json.dumps)
    with pytest.raises(exceptions.InvalidResult, match=r"json_dumps=procrastinate\.json\.dumps"):
        dump_result(ID, procrastinate.json.json.dumps, task_name="t", max_size=100)


def test_the_error_for_another_value_does_not_name_the_encoder() -> None:
    with pytest.raises(exceptions.InvalidJob, match="give the connector a json_dumps that knows it"):
        dump_args("t", {"id": object()}, procrastinate.json.dumps)
    with pytest.raises(exceptions.InvalidJob, match="give the connector a json_dumps that knows it"):
        dump_args("t", {"kind": Order}, procrastinate.json.dumps)


async def test_a_task_gets_its_arguments_in_the_annotated_types() -> None:
    got: list[Any] = []
    connector = InMemoryConnector(json_dumps=procrastinate.json.dumps, json_loads=procrastinate.json.loads)
    app = procrastinate.App(connector=connector)

    @app.task
    async def send(id: uuid.UUID, at: datetime.datetime, order: Order) -> None:
        got.extend((id, at, order))

    await send.defer_async(id=ID, at=NOON, order=Order(ID, []))
    with Jobs(app) as jobs:
        await jobs.run_async()
    assert got == [ID, NOON, Order(ID, [])]


async def test_a_task_gets_plain_values_without_the_decoder() -> None:
    got: list[Any] = []
    app = procrastinate.App(connector=InMemoryConnector(json_dumps=procrastinate.json.dumps))

    @app.task
    async def send(id: uuid.UUID) -> None:
        got.append(id)

    await send.defer_async(id=ID)
    with Jobs(app) as jobs:
        await jobs.run_async()
    assert got == [str(ID)]


async def test_a_job_whose_argument_does_not_fit_fails() -> None:
    connector = InMemoryConnector(json_dumps=procrastinate.json.dumps, json_loads=procrastinate.json.loads)
    app = procrastinate.App(connector=connector)

    @app.task
    async def send(id: uuid.UUID) -> None: ...

    job_id = await send.defer_async(id="seven")
    with Jobs(app) as jobs:
        await jobs.run_async(raise_errors=False)
    assert app.job_manager.get_job_status(job_id) == "failed"
