"""Learning-rate schedules."""

from .warmup_cosine import WarmupCosineLR, step_fix_cosine, warmup_cosine_factor

__all__ = ['WarmupCosineLR', 'step_fix_cosine', 'warmup_cosine_factor']
