"""Features of folders of images as tables, and encoders described by their checkpoint alone."""
