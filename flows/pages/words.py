"""Figures as people write them."""

from __future__ import annotations

MISSING = "–"


def signed(value: float | None, *, unit: str = "") -> str:
    """
    >>> signed(0.84, unit="SD"), signed(-12.3456), signed(None)
    ('+0.84 SD', '−12.3', '–')
    >>> signed(-0.001)
    '0.00'
    """
    if value is None:
        return MISSING
    text = f"{value:+.1f}" if abs(value) >= 10 else f"{value:+.2f}"
    text = "0.00" if float(text) == 0 else text.replace("-", "−")
    return f"{text} {unit}".rstrip()


def interval(bounds: tuple[float, float] | None) -> str:
    """
    >>> interval((-0.2, 1.1))
    '−0.20 … +1.10'
    """
    return MISSING if bounds is None else f"{signed(bounds[0])} … {signed(bounds[1])}"


def percent(share: float | None) -> str:
    """
    >>> percent(0.0091), percent(0.64), percent(0.0), percent(None)
    ('0.9 %', '64 %', '0 %', '–')
    """
    if share is None:
        return MISSING
    return f"{share * 100:.0f} %" if share == 0 or share >= 0.0995 else f"{share * 100:.1f} %"


def figure(value: float | str) -> str:
    """Four significant digits, or the phrase itself.

    >>> figure(0.91234), figure(1234567.0), figure("not lower than 0.9")
    ('0.9123', '1,234,567', 'not lower than 0.9')
    """
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}".replace("-", "−")
