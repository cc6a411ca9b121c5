"""From the canonical names to those of other libraries."""
