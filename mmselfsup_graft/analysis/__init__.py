"""Analysis of what layers learn."""
