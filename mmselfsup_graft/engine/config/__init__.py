"""Strict configs: unknown keys and wrong values are errors."""
