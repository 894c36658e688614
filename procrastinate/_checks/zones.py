"""Time zones from users: names, or objects from several libraries, some of which need a conversion."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

_MONTHS_TO_TRY = [datetime.datetime(2026, 1, 15, 12) + datetime.timedelta(days=30 * month) for month in range(24)]


def as_timezone(value: str | datetime.tzinfo) -> datetime.tzinfo:
    """Return the time zone for a name or a tzinfo object.

    A zone of pytz or dateutil becomes the :class:`zoneinfo.ZoneInfo` of the same name, because their zones give wrong
    times when attached to a naive datetime.

    Raises
    ------
    TypeError, ValueError
        The value is not a known time zone. The message names the argument ``timezone``.
    """
    if isinstance(value, str):
        return _zone_of_name(value)
    if not isinstance(value, datetime.tzinfo):
        raise TypeError(f"timezone must be the name of a time zone, or a ZoneInfo, not {value!r}")
    name = _name_elsewhere(value)
    zone = value if name is None else _zone_of_name(name)
    if not _is_consistent(zone):
        raise ValueError(
            f"timezone={value!r} has inconsistent offsets when attached to a datetime: "
            "write the name of the zone, like 'Europe/Paris'"
        )
    return zone


def check_attached(name: str, value: datetime.datetime) -> None:
    """Refuse a datetime with a pytz zone as ``tzinfo=``. Such a datetime is in local mean time, which is minutes off.

    Raises
    ------
    ValueError
        The datetime is in local mean time. The message names the argument and shows the correct form.
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
    """Return the name of a pytz zone or of a dateutil zone from a file, and ``None`` for other zones."""
    if hasattr(zone, "localize"):
        name: Any = getattr(zone, "zone", None)
    else:
        file = str(getattr(zone, "_filename", ""))
        name = file.rpartition("zoneinfo/")[2] if type(zone).__module__.startswith("dateutil.") else None
    return name if isinstance(name, str) and name in zoneinfo.available_timezones() else None


def _is_consistent(zone: datetime.tzinfo) -> bool:
    """Return true if wall times of the zone convert back to the same moment when the zone is attached to them."""
    for moment in _MONTHS_TO_TRY:
        shown = moment.replace(tzinfo=datetime.UTC).astimezone(zone)
        if shown.replace(tzinfo=None).replace(tzinfo=zone, fold=shown.fold).utcoffset() != shown.utcoffset():
            return False
    return True
