"""What every part may use: files, signals, progress, what is installed."""
