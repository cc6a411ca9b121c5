"""Losses, gradients and weights that are not finite."""
