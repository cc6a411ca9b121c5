"""Curves, speed and time left of training runs, from the files in their work directories."""
