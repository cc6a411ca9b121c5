"""Configs of this package, inherited by name."""

import pytest
from mmengine.config import Config
from test_tools.tiny_runs import ROOT

import mmselfsup_graft
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.libraries import own_configs
from mmselfsup_graft.libraries.scopes import register_all_modules

NAME = 'mae/mae_vit-mini-p8_1xb128-coslr-60e_folder-64px.py'


def inherit(tmp_path, base: str) -> Config:
    register_all_modules()
    child = tmp_path / 'child.py'
    child.write_text(f"_base_ = '{base}'\n")
    return Config.fromfile(str(child))


def test_a_checkout_is_inherited_from(tmp_path):
    found = inherit(tmp_path, f'mmselfsup_graft::{NAME}')
    assert found.to_dict() == Config.fromfile(str(ROOT / 'configs' / NAME)).to_dict()


def test_a_base_without_metafile_is_found(tmp_path):
    found = inherit(tmp_path, 'mmselfsup_graft::_base_/default_runtime.py')
    assert found.default_scope == 'mmselfsup_graft'


def test_a_wheel_has_them_in_its_plugin_folder(tmp_path, monkeypatch):
    package = tmp_path / 'site' / 'mmselfsup_graft'
    config = package / '.mim' / 'configs' / 'mae' / 'a.py'
    config.parent.mkdir(parents=True)
    config.write_text('value = 3\n')
    (package / '__init__.py').touch()
    monkeypatch.setattr(mmselfsup_graft, '__file__', str(package / '__init__.py'))
    assert own_configs.configs_folder() == package / '.mim' / 'configs'
    assert inherit(tmp_path, 'mmselfsup_graft::mae/a.py').value == 3


def test_a_wrong_name_gets_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match=r"did you mean 'mae/mae_vit-mini-p8_1xb128-coslr-60e_folder-64px\.py'"):
        inherit(tmp_path, f'mmselfsup_graft::{NAME.replace("60e", "61e")}')


def test_configs_of_other_packages_are_those_of_mmengine(tmp_path):
    found = inherit(tmp_path, 'mmpretrain::_base_/default_runtime.py')
    assert 'default_hooks' in found
