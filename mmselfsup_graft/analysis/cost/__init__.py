"""Floating-point operations and parameters of a training."""
