"""Attention of vision transformers and principal components of patch features, over the image."""
