"""Numbers as people read them."""

NOTHING = "\N{EN DASH}"
"""Where there is no number."""


def duration(seconds: float | None) -> str:
    """Return a time from microseconds to days, in two units at most."""
    if seconds is None:
        return NOTHING
    if seconds < 1e-3:
        return f"{seconds * 1e6:,.0f} µs"
    if seconds < 1:
        return f"{_digits(seconds * 1e3)} ms"
    if seconds < 60:
        return f"{_digits(seconds)} s"
    for unit, smaller, size in (("min", "s", 60), ("h", "min", 3600)):
        if seconds < 60 * size:
            whole, rest = divmod(round(seconds / size * 60), 60)
            return f"{whole} {unit} {rest:02d} {smaller}"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours:02d} h"


def size(count: float | None) -> str:
    """Return bytes with a decimal unit."""
    return NOTHING if count is None else f"{_scaled(count)}B"


def rate(per_second: float | None, of: str) -> str:
    """Return an amount per second: "524 GFLOP/s"."""
    return NOTHING if per_second is None else f"{_scaled(per_second)}{of}/s"


def percent(share: float | None) -> str:
    """Return a share of 1."""
    return NOTHING if share is None else f"{share:.1%}".replace("%", " %")


def whole(count: float | None) -> str:
    """Return a count with commas."""
    return NOTHING if count is None else f"{count:,.0f}"


def plain(value: float | None) -> str:
    """Return any number with four digits."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def milliseconds(seconds: float | None, like: float) -> str:
    """Return milliseconds without their unit, with the decimals that a table of times up to `like` needs."""
    return NOTHING if seconds is None else f"{seconds * 1e3:,.{decimals(like)}f}"


def decimals(seconds: float) -> int:
    """Return the decimals of milliseconds in a table of times up to so many seconds."""
    return 3 if seconds < 0.01 else 2 if seconds < 0.1 else 1


def _scaled(value: float) -> str:
    for unit, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{_digits(value / factor)} {unit}"
    return f"{value:,.0f} "


def _digits(value: float) -> str:
    """Return three digits, more only before the point."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
