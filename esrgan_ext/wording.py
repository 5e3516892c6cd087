"""Quantities in words for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """ "8 s", "3 min", "1 h 20 min": as exact as an estimate is."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
