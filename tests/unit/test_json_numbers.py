"""Floats stay floats in a jsonb column."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest
import sqlalchemy as sa

from procrastinate._checks.json_numbers import keep_floats
from procrastinate._job_checks import dump_args, dump_result

FLOATS = [0.0, 1.0, -1.5, 1e15, 1e16, -1e16, 1.5e16, 1.2345678901234567e22, 1e-7, 5e-324, 1.7976931348623157e308]


@pytest.mark.parametrize("number", FLOATS)
def test_a_float_is_the_same_float_after_the_database(connection: sa.Connection, number: float) -> None:
    texts = [
        dump_args("t", {"x": [number]}, json.dumps),
        f'{{"x": {dump_result([number], json.dumps, task_name="t", max_size=10_000)}}}',
    ]
    for text in texts:
        kept = connection.execute(sa.text("SELECT CAST(CAST(:text AS jsonb) AS text)"), {"text": text}).scalar_one()
        assert repr(json.loads(kept)["x"]) == repr([number])


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('{"1e+16": "1e+16 \\" 2e+17", "x": 1e+16}', '{"1e+16": "1e+16 \\" 2e+17", "x": 10000000000000000.0}'),
        ('["\\\\", 1E2, 1e16, -1.25e+1]', '["\\\\", 100.0, 10000000000000000.0, -12.5]'),
        ("[1e-7, 10000000000000000, 1e999999999]", "[1e-7, 10000000000000000, 1e999999999]"),
    ],
)
def test_only_numbers_with_an_exponent_are_written_out(text: str, written: str) -> None:
    assert keep_floats(text) == written


@pytest.mark.parametrize("text", ["x" * 2_000_000, "\n" * 1_000_000])
def test_a_long_text_takes_no_memory_but_its_copy(text: str) -> None:
    written = json.dumps(["1e+16", 1e16, text])
    tracemalloc.start()
    try:
        keep_floats(written)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * len(written)


def test_a_number_of_many_digits_is_read_once() -> None:
    begin = time.process_time()
    assert keep_floats("[" + "9" * 40_000 + "]") == "[" + "9" * 40_000 + "]"
    assert time.process_time() - begin < 2  # half a minute, if the search starts at each digit
