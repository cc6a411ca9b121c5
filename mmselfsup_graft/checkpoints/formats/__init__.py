"""Checkpoint formats: where the encoder is in a file, and its canonical names."""
