"""Reconstructions of masked images."""
