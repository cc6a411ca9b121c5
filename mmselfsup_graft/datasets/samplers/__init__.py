"""Samplers: seeded, resumable, exact over processes."""
