"""Features in the plane, and nearest neighbors."""
