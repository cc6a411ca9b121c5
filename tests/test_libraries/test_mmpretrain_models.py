"""What is left out when mmpretrain is imported, and how it is still there for those who ask."""

import sys

import pytest
from forked import Forked

pytest.importorskip('mmdet')

SCRIPT = """
import sys
from mmselfsup_graft.libraries.scopes import import_scope, register_all_modules

register_all_modules()
assert not {'mmdet', 'mmpretrain.models.utils.res_layer_extra_norm'} & set(sys.modules)
%s
from mmdet.registry import MODELS
assert MODELS.get('ResLayerExtraNorm').__module__ == 'mmpretrain.models.utils.res_layer_extra_norm'
"""
OF_THE_NAME = """
from mmpretrain.models import utils
try:
    utils.nothing
except AttributeError as error:
    assert "no attribute 'nothing'" in str(error)
else:
    raise SystemExit('found')
assert utils.ResLayerExtraNorm is sys.modules['mmpretrain.models.utils.res_layer_extra_norm'].ResLayerExtraNorm
assert issubclass(utils.ResLayerExtraNorm, sys.modules['mmdet.models'].ResLayer)
"""


@pytest.mark.parametrize('asking', [OF_THE_NAME, "import_scope('mmdet')"], ids=['name', 'scope'])
def test_mmdet_is_imported_for_those_who_need_it(asking, tmp_path):
    """In a process that has not imported it yet; its registry has mmpretrain's class whichever way it came."""
    (tmp_path / 'script.py').write_text(SCRIPT % asking)
    process = Forked([sys.executable, tmp_path / 'script.py'])
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
