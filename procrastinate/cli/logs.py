"""Logging of the command: to stderr, in colour on a terminal."""

from __future__ import annotations

import argparse
import logging
import sys

from procrastinate._text.logs import get_logger
from procrastinate._text.terminal import is_terminal, paint
from procrastinate.cli.arguments import Counter, add_argument, integer, one_of
from procrastinate.logs import JobFilter, JsonFormatter

logger = get_logger(__name__)

_LEVELS = ("debug", "info", "warning", "error", "critical")
_JSON = "json"
_FORMATS = {
    "%": "%(asctime)s %(levelname)-8s %(name)s %(message)s",
    "{": "{asctime} {levelname:<8} {name} {message}",
    "$": "$asctime $levelname $name $message",
}
"""The format of a line for each style, on a terminal and off it."""
_COLOURS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red", logging.DEBUG: "dim"}


def add_logging_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`configure_logging`."""
    group = parser.add_argument_group("Logging")
    level = group.add_mutually_exclusive_group()
    add_argument(
        level,
        "-v",
        "--verbose",
        env="VERBOSE",
        help="log debug messages; the environment variable takes a number",
        type=integer,
        action=Counter,
        default=0,
    )
    add_argument(level, "--log-level", env="LOG_LEVEL", help=f"one of {', '.join(_LEVELS)}", type=_level)
    add_argument(
        group,
        "--log-format",
        env="LOG_FORMAT",
        help="json, or a format for logging.Formatter, in which %%(job_id)s and other fields name the job",
        may_be_quoted=True,
        metavar="FORMAT",
    )
    add_argument(
        group,
        "--log-format-style",
        env="LOG_FORMAT_STYLE",
        help="style of the format: %%, { or $",
        type=one_of("%{$"),
        default="%",
        metavar="STYLE",
    )


def _level(value: str) -> int:
    return logging.getLevelNamesMapping()[one_of(_LEVELS)(value.lower()).upper()]


def configure_logging(arguments: argparse.Namespace) -> None:
    """Set up logging to stderr. The level is INFO, DEBUG with ``-v``, or the one given as ``--log-level``."""
    level = getattr(arguments, "log_level", logging.DEBUG if arguments.verbose else logging.INFO)
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(JobFilter())
    handler.setFormatter(_formatter(arguments))
    root = logging.getLogger()
    root.setLevel(level)
    root.addHandler(handler)
    logger.debug(
        "The log level is %s",
        logging.getLevelName(level),
        extra={"action": "set_log_level", "value": logging.getLevelName(level)},
    )
    if level > logging.DEBUG:
        logging.getLogger("alembic").setLevel(max(level, logging.WARNING))
        logging.getLogger("watchfiles").setLevel(max(level, logging.WARNING))


def _formatter(arguments: argparse.Namespace) -> logging.Formatter:
    style = arguments.log_format_style
    if not hasattr(arguments, "log_format"):
        kind = _ColourFormatter if is_terminal(sys.stderr) else logging.Formatter
        return kind(_FORMATS[style], style=style)
    if arguments.log_format == _JSON:
        return JsonFormatter()
    return logging.Formatter(arguments.log_format, style=style)


class _ColourFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        colour = _COLOURS.get(record.levelno)
        return paint(text, colour) if colour else text
