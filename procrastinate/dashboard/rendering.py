"""Turn templates into pages."""

from __future__ import annotations

import functools
from typing import Any

from procrastinate._extras import needs_extra

with needs_extra("The dashboard", "dashboard"):
    import jinja2
    from markupsafe import Markup, escape

from procrastinate.core.defaults import BUILTIN_QUEUE
from procrastinate.dashboard import assets, formatting
from procrastinate.dashboard.search import write_term


@functools.cache
def environment() -> jinja2.Environment:
    """Return the environment of all templates. It escapes every value, and refuses a name that a view forgot."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("procrastinate.dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        advice=_advice,
        ago=formatting.ago,
        amount=formatting.amount,
        between=formatting.between,
        duration=formatting.duration,
        exact=formatting.exact,
        foreign=formatting.text,
        foreign_lines=formatting.lines,
        message=formatting.message,
        size=formatting.size,
    )
    made.globals.update(builtin_queue=BUILTIN_QUEUE, asset=assets.path, term=write_term)
    return made


def _advice(text: str) -> Markup:
    """Return advice with its commands, which stand in backticks, as code."""
    parts = formatting.text(text).split("`")
    if len(parts) % 2 == 0:  # a name of a row has a backtick
        return escape("`".join(parts))
    shown = (Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts))
    return Markup("").join(shown)


def render(template: str, **values: Any) -> str:
    """Return a template as text."""
    return environment().get_template(template).render(**values)
