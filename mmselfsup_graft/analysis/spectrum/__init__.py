"""Spectrum and variance of features over depth."""
