"""Gradient conflict of two objectives over depth, and where to graft."""
