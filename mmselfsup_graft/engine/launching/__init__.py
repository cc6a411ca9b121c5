"""Processes and their work directory."""
