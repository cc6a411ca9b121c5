"""Reading checkpoint files as plain data; nothing in a file is executed."""
