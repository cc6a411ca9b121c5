"""To other libraries: convert, verify, publish."""
