"""Shared utilities: files, signals, progress, environment."""
