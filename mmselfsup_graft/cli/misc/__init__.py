"""Commands of ``tools/misc``."""
