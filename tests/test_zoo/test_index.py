"""Models by name: what is listed, what is built, whose weights arrive."""

from pathlib import Path

import pytest
import torch
from test_tools.tiny_runs import call_tool

from mmselfsup_graft.checkpoints import file_sha256, save_atomically
from mmselfsup_graft.downloads import published as published_files
from mmselfsup_graft.downloads.published import PublishedFile
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.zoo import index as zoo

SMALL = 'mae_vit-micro-p4_1xb64-coslr-210e_digits-16px'
PUBLISHED = 'mae_vit-base-p16_8xb512-amp-coslr-800e_in1k'


def test_listing() -> None:
    every = zoo.list_models()
    assert {SMALL, PUBLISHED} <= set(every)
    assert all(zoo.find_model(name).config.is_file() for name in every)
    assert zoo.list_models('mae_*210e_digits-*') == [SMALL] == zoo.list_models('mae_vit-micro-p4_1xb64-coslr-210e')
    assert PUBLISHED in zoo.list_models(pretrained=True)
    assert SMALL not in zoo.list_models(pretrained=True)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=f'did you mean {SMALL}'):
        zoo.get_model('mae_vit-micro')
    with pytest.raises(ConfigError, match='list_models'):
        zoo.get_model('alexnet')
    with pytest.raises(ConfigError, match=r"get_model\(MODEL, pretrained='zoo:mae-vit-base'\)"):
        zoo.get_model('zoo:mae-vit-base')


def test_fresh_and_from_a_checkpoint(tmp_path: Path) -> None:
    model = zoo.get_model(SMALL)
    assert model.backbone.pos_embed.shape == (1, 17, 64)
    state = {f'backbone.{name}': torch.full_like(value, 0.5) for name, value in model.backbone.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'mine.pth')
    filled = zoo.get_model(SMALL, pretrained=tmp_path / 'mine.pth')
    assert all((value == 0.5).all() for value in filled.backbone.state_dict().values())
    grafted = zoo.get_model('layer-grafted_vit-micro-p4_1xb64-coslr-75e_digits-16px')  # without the config's graft
    assert not (grafted.backbone.layers[0].attn.qkv.weight == 0.5).any()


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights for SMALL, as a mirror of where the zoo says they lie."""
    state = zoo.get_model(SMALL).backbone.state_dict()
    (tmp_path / 'mirror').mkdir()
    path = tmp_path / 'mirror' / 'micro.pth'
    torch.save({'state_dict': {name: torch.full_like(value, 0.25) for name, value in state.items()}}, path)
    entry = PublishedFile(
        name='tiny',
        project='A test',
        page='https://nowhere.invalid',
        source='README.md',
        license='CC0-1.0',
        url='https://nowhere.invalid/micro.pth',
        sha256=file_sha256(path)[:8],
        config=SMALL,
    )
    model = zoo.find_model(SMALL)
    monkeypatch.setattr(zoo, 'zoo', lambda: {SMALL: model})
    monkeypatch.setattr(published_files, 'published_files', lambda: {'tiny': entry})
    monkeypatch.setenv('GRAFT_MIRROR', str(tmp_path / 'mirror'))
    monkeypatch.setenv('GRAFT_WEIGHTS', str(tmp_path / 'weights'))
    return path


def test_weights_of_the_zoo(published: Path, tmp_path: Path) -> None:
    model = zoo.get_model(SMALL, pretrained=True, offline=True)
    assert (model.backbone.layers[2].attn.qkv.weight == 0.25).all()
    assert (tmp_path / 'weights' / 'micro.pth').read_bytes() == published.read_bytes()


def test_no_weights() -> None:
    with pytest.raises(CheckpointError, match=f'no weights for {SMALL}; available for .*{PUBLISHED}'):
        zoo.get_model(SMALL, pretrained=True)


def test_the_tool(published: Path, tmp_path: Path) -> None:
    done = call_tool('download_weights', SMALL, '--folder', tmp_path / 'here', '--offline')
    assert done.code == 0, done.err
    assert done.out.strip() == str(tmp_path / 'here' / 'micro.pth')
    file, model = call_tool('download_weights', '--list').out.splitlines()
    assert file.startswith('zoo:tiny  A test  pre-trained  license: CC0-1.0  size not stated')
    assert model == f'{SMALL}  zoo:tiny'
    assert call_tool('download_weights').code == 2
    published.write_bytes(b'other')
    message = call_tool('download_weights', SMALL, '--folder', tmp_path / 'there').error()
    assert 'expected' in message
    assert not list((tmp_path / 'there').glob('[!.]*'))


def test_a_model_that_learnt_from_another_needs_only_its_own_file(tmp_path: Path) -> None:
    """TEC's base model is for training alone."""
    name = 'tec_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px'
    fresh = zoo.get_model(name)
    save_atomically({'state_dict': fresh.state_dict()}, tmp_path / 'tec.pth')
    again = zoo.get_model(name, pretrained=tmp_path / 'tec.pth')
    assert torch.equal(again.backbone.cls_token_mlp.fc1.weight, fresh.backbone.cls_token_mlp.fc1.weight)
