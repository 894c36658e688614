"""Time zones that users give: by name, or as objects of several libraries, not all of which are to be used alike."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

_MONTHS_TO_TRY = [datetime.datetime(2026, 1, 15, 12) + datetime.timedelta(days=30 * month) for month in range(24)]


def as_timezone(value: str | datetime.tzinfo) -> datetime.tzinfo:
    """The time zone of that name, or the one that was given.

    A zone of pytz or dateutil becomes the :class:`zoneinfo.ZoneInfo` of its name: theirs give other times when they are
    attached to what clocks show.

    Raises
    ------
    TypeError, ValueError
        It names the argument ``timezone``.
    """
    if isinstance(value, str):
        return _zone_of_name(value)
    if not isinstance(value, datetime.tzinfo):
        raise TypeError(f"timezone must be the name of a time zone, or a ZoneInfo, not {value!r}")
    name = _name_elsewhere(value)
    zone = value if name is None else _zone_of_name(name)
    if not _is_consistent(zone):
        raise ValueError(
            f"timezone={value!r} gives one time for what clocks show and another for the moment: "
            "write the name of the zone, like 'Europe/Paris'"
        )
    return zone


def check_attached(name: str, value: datetime.datetime) -> None:
    """Refuse a datetime to which a zone of pytz was attached as it is: it stands for local mean time, minutes off.

    Raises
    ------
    ValueError
        It names the argument, and says how to write it.
    """
    localize = getattr(value.tzinfo, "localize", None)
    if localize is None:
        return
    naive = value.replace(tzinfo=None)
    if value.tzname() == "LMT" and localize(naive).tzname() != "LMT":
        zone = getattr(value.tzinfo, "zone", "Europe/Paris")
        raise ValueError(
            f"{name}={value!r} is in local mean time: a pytz zone is not given as tzinfo=. "
            f"Write tzinfo=zoneinfo.ZoneInfo({zone!r}), or use its localize()"
        )


def _zone_of_name(name: str) -> datetime.tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"timezone={name!r} is not known here: write a name like 'Europe/Paris' "
            "(where the system has no time zones, install tzdata)"
        ) from None


def _name_elsewhere(zone: datetime.tzinfo) -> str | None:
    """The name of a zone of pytz, or of one that dateutil has read from a file; ``None`` for any other."""
    if hasattr(zone, "localize"):
        name: Any = getattr(zone, "zone", None)
    else:
        file = str(getattr(zone, "_filename", ""))
        name = file.rpartition("zoneinfo/")[2] if type(zone).__module__.startswith("dateutil.") else None
    return name if isinstance(name, str) and name in zoneinfo.available_timezones() else None


def _is_consistent(zone: datetime.tzinfo) -> bool:
    """Whether what clocks show at a moment is that moment again, once the zone is attached to it."""
    for moment in _MONTHS_TO_TRY:
        shown = moment.replace(tzinfo=datetime.UTC).astimezone(zone)
        if shown.replace(tzinfo=None).replace(tzinfo=zone, fold=shown.fold).utcoffset() != shown.utcoffset():
            return False
    return True
