"""Commands of ``tools/analysis_tools``."""
