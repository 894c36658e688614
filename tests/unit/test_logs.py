"""What the loggers of the package write: one line a record, and tracebacks that forge none."""

from __future__ import annotations

import ast
import io
import logging
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import procrastinate
from procrastinate._quoting import LONGEST_LINE, LONGEST_TEXT
from procrastinate._text.logs import STACK, Seldom, get_logger

PACKAGE = pathlib.Path(procrastinate.__file__).parent
FORGED = "x\nERROR:root:forged\r\x1b[2K\x1b]0;title\x07\u202e\x00\ud800"
FORMAT = "%(levelname)s:%(name)s:%(message)s"


class Log:
    """A logger of the package, and what a handler of a program writes of its records."""

    def __init__(self, format_: str = FORMAT) -> None:
        self.stream = io.StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(logging.Formatter(format_))
        self.logger = get_logger("procrastinate.tests_of_logs")
        self.logger.propagate = False
        self.logger.setLevel(logging.DEBUG)
        self.logger.addHandler(self.handler)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[str]:
        """What was written, without the last newline, which is the handler's. Only a newline ends a line."""
        assert self.text.endswith("\n")
        return self.text[:-1].split("\n")


@pytest.fixture
def log() -> Iterator[Log]:
    one = Log()
    yield one
    one.logger.removeHandler(one.handler)


def prints(lines: list[str]) -> bool:
    return all(line.isprintable() for line in lines)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_a_record_is_one_line_that_prints(log: Log) -> None:
    log.logger.info("Job %s waits: %s", FORGED, ValueError(FORGED))
    assert len(log.lines) == 1
    assert prints(log.lines)


def test_a_message_without_arguments_is_quoted_too(log: Log) -> None:
    log.logger.info(f"100% {FORGED}")
    assert len(log.lines) == 1
    assert prints(log.lines)


def test_a_record_that_prints_keeps_its_template_and_arguments(log: Log) -> None:
    records: list[logging.LogRecord] = []
    log.logger.addFilter(keep := lambda record: records.append(record) or True)
    log.logger.info("Job %s", "a")
    log.logger.removeFilter(keep)
    assert (records[0].msg, records[0].args) == ("Job %s", ("a",))


def test_a_long_message_is_cut(log: Log) -> None:
    log.logger.info("%s", "x" * 10_000_000)
    assert len(log.text) < LONGEST_LINE + 100
    assert "10,000,000 characters" in log.text


def test_a_value_that_cannot_be_written_costs_its_message_alone(log: Log) -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError

    log.logger.info("It returned %s", Broken())
    assert log.lines == ["INFO:procrastinate.tests_of_logs:It returned %s (its values cannot be written: ValueError)"]


@pytest.mark.parametrize("attribute", ["name", "threadName", "taskName", "processName"])
def test_names_in_a_record_print(attribute: str) -> None:
    log = Log(f"%({attribute})s")
    record = logging.LogRecord(FORGED, logging.INFO, "", 1, "message", (), None)
    setattr(record, attribute, FORGED)
    log.logger.handle(record)
    log.logger.removeHandler(log.handler)
    assert len(log.lines) == 1
    assert prints(log.lines)


def test_the_name_of_a_thread_cannot_forge_a_record() -> None:
    log = Log("%(threadName)s %(message)s")
    thread = threading.Thread(target=lambda: log.logger.info("hello"), name=FORGED)
    thread.start()
    thread.join()
    log.logger.removeHandler(log.handler)
    assert len(log.lines) == 1


class NamedError(Exception):
    """An exception of a program."""


def with_note(error: BaseException) -> BaseException:
    error.add_note(FORGED)
    return error


def with_cause(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def syntax_error() -> BaseException:
    try:
        compile("a = (\rERROR:root:forged \x0c\x1b[2K ???", "f\nERROR:root:forged", "exec")
    except SyntaxError as error:
        return error
    raise AssertionError


class ForgedMembersError(Exception):
    """Has an attribute of the name that groups use."""

    exceptions = ("no", "exceptions")


ERRORS: dict[str, Callable[[], BaseException]] = {
    "message": lambda: ValueError(FORGED),
    "class of a program": lambda: NamedError(FORGED),
    "note": lambda: with_note(ValueError("fine")),
    "cause": lambda: with_cause(ValueError("fine"), raised(KeyError(FORGED))),
    "text in a cause": lambda: with_cause(ValueError("fine"), raised(OSError(FORGED))),
    "group": lambda: ExceptionGroup(FORGED, [raised(ValueError(FORGED)), ExceptionGroup("b", [OSError(FORGED)])]),
    "syntax": syntax_error,
    "name of the class": lambda: type("x\nERROR:root:forged\x1b[2K", (Exception,), {})("fine"),
    "headline": lambda: ValueError("x\nTraceback (most recent call last):\nERROR:root:forged"),
    "attribute of groups": lambda: ForgedMembersError(FORGED),
}


@pytest.mark.parametrize("make", ERRORS.values(), ids=list(ERRORS))
def test_a_traceback_forges_no_record(log: Log, make: Callable[[], BaseException]) -> None:
    error = raised(make())
    log.logger.error("It failed", exc_info=error)
    assert prints(log.lines)
    assert not [line for line in log.lines if line.startswith("ERROR:root")]
    assert "forged" in log.text
    assert len(log.lines) > 2


def test_further_lines_of_a_message_are_indented(log: Log) -> None:
    log.logger.error("It failed", exc_info=raised(ValueError("first\nsecond")))
    assert log.lines[-2:] == ["ValueError: first", "  second"]


def test_an_ordinary_traceback_is_written_by_the_formatter_of_the_program(log: Log) -> None:
    class OneLine(logging.Formatter):
        def formatException(self, ei: Any) -> str:
            return f"<{ei[0].__name__}>"

    log.handler.setFormatter(OneLine(FORMAT))
    log.logger.error("It failed", exc_info=raised(with_cause(NamedError("a"), raised(KeyError()))))
    assert log.lines[-1] == "<NamedError>"


def test_a_program_still_finds_the_exception_in_the_record(log: Log) -> None:
    records: list[logging.LogRecord] = []
    log.logger.addFilter(keep := lambda record: records.append(record) or True)
    error = raised(ValueError(FORGED))
    log.logger.error("It failed", exc_info=error)
    log.logger.removeFilter(keep)
    assert records[0].exc_info is not None
    assert records[0].exc_info[1] is error


def test_a_traceback_with_a_long_message_is_cut(log: Log) -> None:
    log.logger.error("It failed", exc_info=raised(ValueError("x" * 10_000_000)))
    assert len(log.text) < 2 * LONGEST_TEXT
    log.logger.error("It failed", exc_info=raised(ValueError("x\n" * 5_000_000)))
    assert len(log.text) < 5 * LONGEST_TEXT


def test_an_exception_with_thousands_of_causes_is_logged(log: Log) -> None:
    error = raised(ValueError(FORGED))
    for _ in range(5_000):
        error = with_cause(ValueError(FORGED), error)
    log.logger.error("It failed", exc_info=error)
    assert prints(log.lines)
    assert not [line for line in log.lines if line.startswith("ERROR:root")]


def test_a_stack_stands_below_its_message(log: Log) -> None:
    log.logger.warning("Blocked", extra={STACK: '  File "a", line 1\n    wait()'})
    assert log.lines[1:] == ['  File "a", line 1', "    wait()"]


def test_what_happens_often_is_logged_once_a_minute_with_a_count(log: Log) -> None:
    now = 0.0
    seldom = Seldom(log.logger, "%d times: %s", "often", clock=lambda: now)
    for _ in range(1_000):
        seldom.note("a")
    now = 60.0
    seldom.note("b\n")
    seldom.note("c")
    assert [line.rpartition("logs:")[2] for line in log.lines] == ["1 times: a", "1000 times: b\\n"]


# Every way out of the package


WRITERS = {"print", "print_exc", "print_exception", "print_stack", "writelines"}
OWN_WRITERS = {"_text/terminal.py", "adapters/django/emit_migrations.py"}  # the latter is run by maintainers alone


def calls() -> Iterator[tuple[str, ast.Call, str]]:
    """Yield each call in the package: the module, the call, the name of what is called."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                yield module, node, name


def test_text_is_written_by_the_console_alone() -> None:
    found = [
        f"{module}:{call.lineno}" for module, call, name in calls() if name in WRITERS and module not in OWN_WRITERS
    ]
    assert found == []


def test_no_module_writes_to_the_streams_itself() -> None:
    found = [
        f"{module}:{call.lineno}"
        for module, call, name in calls()
        if name == "write" and "sys.std" in ast.unparse(call.func) and module not in OWN_WRITERS
    ]
    assert found == []


def test_each_logger_that_writes_is_one_that_quotes() -> None:
    """Loggers that are named in words are only configured."""
    found = [
        f"{module}:{call.lineno}"
        for module, call, name in calls()
        if name in ("getLogger", "getChild", "LoggerAdapter")
        and module != "_text/logs.py"
        and not all(isinstance(argument, ast.Constant) for argument in call.args)
    ]
    assert found == []


ESCAPED = ("mark_safe(response.page.body)",)
"""The body of a page of the dashboard, whose templates escape every value: dashboard/test_hosts.py."""


def test_no_page_takes_text_for_html() -> None:
    found = [
        f"{module}:{call.lineno}"
        for module, call, name in calls()
        if name in ("mark_safe", "SafeString", "SafeText")
        and not all(isinstance(one, ast.Constant) for one in call.args)
        and ast.unparse(call) not in ESCAPED
    ]
    assert found == []
