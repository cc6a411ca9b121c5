"""Commands of ``tools/dataset_tools``."""
