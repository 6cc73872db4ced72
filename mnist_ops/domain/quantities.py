"""Numbers, shares, durations and sizes as people read them."""

NOTHING = "–"  # noqa: RUF001 (a dash for people)
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400  # seconds


def number(value: float | None) -> str:
    """1234567 as "1,234,567"; fractions with three digits."""
    if value is None:
        return NOTHING
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def percent(share: float | None, digits: int = 1) -> str:
    """0.5 as "50.0 %". What is less than all, or more than nothing, is not rounded to it."""
    if share is None:
        return NOTHING
    nearest = 10**-digits
    if 0 < 100 - 100 * share < nearest / 2:
        return f"> {100 - nearest:.{digits}f} %"
    if 0 < 100 * share < nearest / 2:
        return f"< {nearest:.{digits}f} %"
    return f"{100 * share:.{digits}f} %"


def seconds(value: float | None) -> str:
    """A duration in its largest two units: "0.42 s", "12 s", "3 min 20 s", "2 h 5 min", "4 d 1 h"."""
    if value is None:
        return NOTHING
    if value < 10:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    whole = round(value)
    for unit, name, smaller, its_name in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {its_name}"
    return f"{whole // _MINUTE} min {whole % _MINUTE} s" if whole >= _MINUTE else f"{whole} s"


def byte_size(value: float | None) -> str:
    """4404019 as "4.2 MiB"."""
    if value is None:
        return NOTHING
    size = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
