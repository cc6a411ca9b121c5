"""Conversion from canonical names to those of other libraries."""
