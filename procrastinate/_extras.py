"""The error for a package that an extra of this distribution installs, and that is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from procrastinate import exceptions


@contextlib.contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Import the packages of an extra in the block.

    Parameters
    ----------
    what:
        What needs the packages, as the message begins: ``"The dashboard"``.
    extra:
        The extra that installs them.

    Raises
    ------
    MissingExtra
        A package is not installed. The message names it, and how to install the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", "procrastinate"):  # a fault of this package
            raise
        raise exceptions.MissingExtra(
            f"{what} needs {name}, which is not installed: {how_to_install(extra)}", name=error.name
        ) from None


@contextlib.contextmanager
def needs_libpq() -> Iterator[None]:
    """Import psycopg in the block. Without a libpq, psycopg is installed and cannot be imported.

    Raises
    ------
    MissingExtra
        psycopg finds no libpq. The message says how to install one.
    """
    try:
        yield
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        raise exceptions.MissingExtra(
            "psycopg finds no libpq, the client library of PostgreSQL: "
            f"{how_to_install('binary')}, or install the libpq of your system",
            name="psycopg",
        ) from error


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra, as messages write it."""
    return f'pip install "procrastinate[{extra}]"'
