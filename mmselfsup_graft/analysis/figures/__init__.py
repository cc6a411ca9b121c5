"""Shared parts of figures: grids of images, curves, the axis of layers."""
