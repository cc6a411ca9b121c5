"""What is measured: one module per benchmark."""
