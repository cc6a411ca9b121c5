"""Shared set-up of all tests: import path of the helpers, default scope, quiet logs, few threads."""

import gc
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

# where mmcv's compiled operators are installed too; GRAFT_MMCV_OPS=compiled tests with those
os.environ.setdefault('GRAFT_MMCV_OPS', 'torchvision')

# ``tests`` itself is not an importable name: some installed packages bring a top-level package of that name
sys.path.insert(0, str(Path(__file__).parent))
# the harness of the benchmarks is imported by their scripts only
sys.path.append(str(Path(__file__).parents[1] / 'benchmarks'))

from config_cache import remember_files
from helpers import enter_scope
from mmengine.registry import DefaultScope
from test_datasets.test_fast.images import WITH_DALI

remember_files()
LEFT_OUT = pytest.StashKey[int]()
# GRAFT_TEST_DEVICE=cpu runs the tests of a GPU where there is none
WITH_GPU = 'GRAFT_TEST_DEVICE' in os.environ or torch.cuda.is_available()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--no-transfer', action='store_true', help='leave detection and segmentation out')
    parser.addoption('--all', action='store_true', help='run the tests marked slow, too')


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests marked ``slow`` out, unless ``--all`` is given."""
    if config.getoption('--all'):
        return
    slow = [item for item in items if item.get_closest_marker('slow')]
    items[:] = [item for item in items if not item.get_closest_marker('slow')]
    config.stash[LEFT_OUT] = len(slow)
    config.hook.pytest_deselected(items=slow)


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, 'workeroutput', None)  # of a worker of pytest-xdist
    if output is not None:
        output['left_out'] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Every worker of pytest-xdist collects the same tests; the process that reports collects none."""
    node.config.stash[LEFT_OUT] = getattr(node, 'workeroutput', {}).get('left_out', 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    count = config.stash.get(LEFT_OUT, 0)
    if count:
        terminalreporter.write_line(f'{count} slow tests left out; run them, too: bash tools/run_tests.sh --all')


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    left_out = {'test_downstream'} if config.getoption('--no-transfer') else set()
    if not WITH_DALI:
        left_out.add('test_with_dali.py')
    if not WITH_GPU:
        left_out.add('test_cuda.py')
    return True if collection_path.name in left_out else None


def pytest_collection_finish() -> None:
    """Keep Python's garbage collector from going through all that the imports made, again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session', autouse=True)
def quiet_and_one_thread() -> None:
    torch.set_num_threads(1)  # tiny models are faster without waiting for other threads, on a busy machine above all
    enter_scope()
    logging.getLogger('mmengine').setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def our_scope() -> None:
    """Make our registries mmengine's default scope, as the tools do; a run of mmdet's in an earlier test changed it."""
    scope = DefaultScope.get_current_instance()
    if scope is None or scope.scope_name != 'mmselfsup_graft':
        enter_scope()


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    torch.manual_seed(0)
