"""Commands of ``tools/visualization``."""
