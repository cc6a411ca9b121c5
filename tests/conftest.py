"""Shared set-up of all tests: import path of the helpers, default scope, quiet logs, few threads."""

import logging
import os
import sys
from pathlib import Path

import pytest
import torch

# where mmcv's compiled operators are installed too; GRAFT_MMCV_OPS=compiled tests with those
os.environ.setdefault('GRAFT_MMCV_OPS', 'torchvision')

# ``tests`` itself is no importable name: some installed packages bring a top-level package of that name
sys.path.insert(0, str(Path(__file__).parent))
# the harness of the benchmarks is imported by their scripts only
sys.path.append(str(Path(__file__).parents[1] / 'tools' / 'benchmarks'))

from helpers import enter_scope
from test_datasets.test_fast.images import WITH_DALI


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--no-transfer', action='store_true', help='leave detection and segmentation out')


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    left_out = {'test_downstream'} if config.getoption('--no-transfer') else set()
    if not WITH_DALI:
        left_out.add('test_with_dali.py')
    return True if collection_path.name in left_out else None


@pytest.fixture(scope='session', autouse=True)
def our_scope() -> None:
    """Make our registries mmengine's default scope, as the tools do."""
    torch.set_num_threads(1)  # tiny models are faster without waiting for other threads, on a busy machine above all
    enter_scope()
    logging.getLogger('mmengine').setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    torch.manual_seed(0)
