"""Commands of ``tools/model_converters``."""
