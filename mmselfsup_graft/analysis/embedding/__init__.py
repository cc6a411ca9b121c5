"""Two-dimensional maps of features, and nearest neighbors."""
