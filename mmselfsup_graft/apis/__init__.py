"""What a notebook or a tool calls. Import the functions from their modules; this package imports nothing by itself."""
