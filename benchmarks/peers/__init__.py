"""The same models in other libraries."""
