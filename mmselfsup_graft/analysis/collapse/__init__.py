"""Indicators of collapse."""
