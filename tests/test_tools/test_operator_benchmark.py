"""The benchmark of mmcv's operators: subjects run, and what is not installed is a row with a reason."""

import os

import pytest
from harness.clock import BlockClock
from harness.task import Missing, Settings
from subjects import mmcv_ops

from mmselfsup_graft.ops import VARIABLE


@pytest.mark.parametrize('subject', ['nms', 'soft-nms', 'deform-conv'])
def test_subjects(subject, monkeypatch):
    monkeypatch.setenv(VARIABLE, os.environ[VARIABLE])
    task = mmcv_ops.build(subject, 'torchvision', Settings())
    clock = BlockClock('cpu', False)
    assert task.block(clock, 1)['cpu'] > 0


def test_compiled_operators_that_are_not_installed(monkeypatch):
    monkeypatch.setenv(VARIABLE, os.environ[VARIABLE])
    monkeypatch.setattr(mmcv_ops, 'operators_in_use', lambda: 'torchvision')
    with pytest.raises(Missing, match='no compiled operators here'):
        mmcv_ops.build('nms', 'compiled', Settings())
