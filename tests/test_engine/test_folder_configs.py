"""Configs for folders, found by method."""

import pytest

from mmselfsup_graft.engine.config.folder_configs import folder_config, folder_configs
from mmselfsup_graft.errors import ConfigError

METHODS = {'a2mim', 'byol', 'layer-grafted', 'mae', 'mocov3', 'simmim', 'tec'}


def test_every_method_has_both_sizes():
    sizes: dict[str, set[int]] = {}
    for each in folder_configs():
        sizes.setdefault(each.method, set()).add(each.img_size)
    assert sizes.keys() >= METHODS
    assert all(sizes[name] == {64, 224} for name in METHODS)


@pytest.mark.parametrize(
    ('arguments', 'start'),
    [
        (('mae',), 'mae_vit-mini-p8_'),
        (('MAE', 224), 'mae_vit-base-p16_'),
        (('a2mim', 64, 'resnet'), 'a2mim_resnet18-w16_'),
        (('layer_grafted', 224), 'layer-grafted_vit-base-p16_'),
        (('byol', 224), 'byol_resnet50_'),
        (('mocov2',), 'moco-v2_resnet18-w16_'),
    ],
)
def test_a_method_is_found(arguments, start):
    path = folder_config(*arguments)
    assert path.name.startswith(start)
    assert path.name.endswith(f'_folder-{arguments[1] if len(arguments) > 1 else 64}px.py')


def test_what_there_is_not():
    with pytest.raises(ConfigError, match=r"did you mean 'mae'"):
        folder_config('mea')
    with pytest.raises(ConfigError, match=r'no config for swin at 64 px; there are .*vit-mini-p8 at 64 px'):
        folder_config('mae', 64, 'swin')
