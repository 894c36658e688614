"""The one format in which people read durations: in reasons, errors, on pages and in the output of commands.

Measured times in logs stay in seconds, so that programs can compare them.
"""

from __future__ import annotations

import math

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
"""Units by their size in seconds, the largest first."""


def duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as ``2 h 5 min``.

    Below ten seconds it has tenths, and below one second it is in milliseconds.
    """
    if math.isinf(seconds):  # plain SQL can write infinite times
        return "forever" if seconds > 0 else "-forever"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for place, (size, unit) in enumerate(UNITS):
        if whole >= size:
            rest, smaller = whole % size, UNITS[place + 1 : place + 2]
            part = rest // smaller[0][0] if smaller else 0
            return f"{whole // size} {unit} {part} {smaller[0][1]}" if part else f"{whole // size} {unit}"
    return "0 s"


def setting(seconds: float) -> str:
    """Return a length of time that was set. It is never rounded: what :func:`duration` cannot say is in seconds."""
    text = duration(seconds)
    words = text.split()
    sizes = {unit: float(size) for size, unit in UNITS} | {"ms": 0.001}
    said = sum(float(number) * sizes[unit] for number, unit in zip(words[::2], words[1::2], strict=False))
    return text if math.isclose(said, seconds) else f"{seconds:.15g} s"
