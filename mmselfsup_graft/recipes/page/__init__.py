"""The HTML page at the end of a recipe."""
