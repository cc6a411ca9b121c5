"""Detection and segmentation need mmdet and mmseg; `--no-transfer` leaves these tests out."""

import importlib
from pathlib import Path

import pytest
from tiny_downstream import write_ade, write_coco


@pytest.fixture(scope='session', autouse=True)
def libraries() -> None:
    try:
        for name in ('mmcv.ops', 'mmdet', 'mmseg'):
            importlib.import_module(name)
    except ImportError as error:
        pytest.fail(f'{error}: bash tools/install.sh --tests --transfer, or leave these tests out with --no-transfer')


@pytest.fixture(scope='session')
def data(tmp_path_factory) -> dict[str, Path]:
    """Small generated data sets."""
    root = tmp_path_factory.mktemp('downstream')
    write_coco(root / 'coco')
    write_ade(root / 'ade')
    return {'coco': root / 'coco', 'ade': root / 'ade'}
