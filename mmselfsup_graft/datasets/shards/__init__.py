"""Data sets in shards: reading and writing them."""
