"""Fixtures of the tests of runs."""

import pytest
from mmengine.config import Config


@pytest.fixture
def quick(monkeypatch):
    """Save a third of a tiny run's time: the formatting of its config."""
    monkeypatch.setattr(Config, 'pretty_text', property(lambda cfg: repr(cfg.to_dict())))
