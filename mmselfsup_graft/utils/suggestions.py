"""Suggestions for misspelled names."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return up to ``most`` known names that look like ``name``, the nearest first; ``cutoff`` 1 is equality."""
    return get_close_matches(name, list(known), n=most, cutoff=cutoff)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest known name, or nothing if none is near."""
    near = nearest(name, known)
    return f" (did you mean '{near[0]}'?)" if near else ''
