"""All scenarios."""

from .scenario import Scenario
from .training import Training

SCENARIOS: list[Scenario] = [Training('mim'), Training('cl')]
