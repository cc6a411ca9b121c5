"""Files that others publish: what is known of them, how they are downloaded and checked."""
