"""Checkpoint formats: where the encoder lies in a file, and its canonical names."""
