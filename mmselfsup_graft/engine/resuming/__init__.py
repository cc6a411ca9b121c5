"""Resuming a run from its checkpoint."""
