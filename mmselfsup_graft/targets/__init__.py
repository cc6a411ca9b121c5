"""Models of libraries that take an encoder, from the shapes of its tensors and its file."""
