"""``zoo:NAME`` wherever a file of weights or a list is named: models by name, scoring, graft, base model, ``init_cfg``,
conversion, fine-tuning, lists."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build, enter_scope, mae_config, tec_config, vit_config
from hostile_server import Server, answer
from PIL import Image
from test_tools.test_finetune import finetune_config
from test_tools.tiny_runs import call_tool, fresh_name, tiny_config, write_config

from mmselfsup_graft.checkpoints import file_sha256, read_state
from mmselfsup_graft.datasets import ImageList
from mmselfsup_graft.downloads.published import PublishedFile
from mmselfsup_graft.engine.runners.pretrained import load_pretrained, take_pretrained
from mmselfsup_graft.engine.train import set_pretrained, training_config
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.evaluation.backbones import load_backbone
from mmselfsup_graft.evaluation.compared_checkpoints import read_compared
from mmselfsup_graft.evaluation.finetuning.finetune import prepare_finetuning
from mmselfsup_graft.export.convert_file import ConvertOptions, convert_file
from mmselfsup_graft.utils.files import read_rows
from mmselfsup_graft.zoo.index import get_model

SMALL = 'mae_vit-micro-p4_1xb64-coslr-210e_digits-16px'
PRETRAINED = {'type': 'Pretrained', 'checkpoint': 'zoo:tiny'}
Publish = Callable[..., PublishedFile]


@pytest.fixture(scope='module', autouse=True)
def scope() -> None:
    enter_scope()


def by_name(source: Any) -> torch.Tensor:
    return get_model(SMALL, pretrained=source).backbone.pos_embed


def by_name_with_options(source: Any) -> torch.Tensor:
    return get_model(SMALL, pretrained={'checkpoint': source, 'branch': 'base'}).backbone.pos_embed


def graft(source: Any) -> torch.Tensor:
    model = build(mae_config(small(), graft=[{'checkpoint': source, 'layers': (0, 2)}]))
    model.init_weights()
    return model.backbone.pos_embed


def base_model(source: Any) -> torch.Tensor:
    model = build(tec_config(small(), base={'final_norm': True}, checkpoint=source))
    model.init_weights()
    return model.base_model.pos_embed


def base_model_with_options(source: Any) -> torch.Tensor:
    return base_model({'checkpoint': source, 'format': 'auto'})


def init_cfg(source: Any) -> torch.Tensor:
    init = {'type': 'Pretrained', 'checkpoint': source}
    module = build({**small(), 'type': 'mmpretrain.VisionTransformer', 'final_norm': True, 'init_cfg': init})
    (part,) = take_pretrained(module)
    load_pretrained(part)
    return module.pos_embed


def scoring(source: Any) -> torch.Tensor:
    return load_backbone(small(), source).pos_embed  # type: ignore[return-value]


def small() -> dict[str, Any]:
    """The encoder of SMALL."""
    return vit_config(width=64, depth=3, heads=4, img_size=16, patch_size=4, in_channels=1)


PLACES = [by_name, by_name_with_options, graft, base_model, base_model_with_options, init_cfg, scoring]


@pytest.fixture
def tiny(publish: Publish) -> bytes:
    """A checkpoint of SMALL's encoder, published; every value is 0.25."""
    state = get_model(SMALL).backbone.state_dict()
    file = io.BytesIO()
    torch.save({'state_dict': {name: torch.full_like(value, 0.25) for name, value in state.items()}}, file)
    publish(file.getvalue())
    return file.getvalue()


@pytest.mark.parametrize('place', PLACES, ids=lambda place: place.__name__)
def test_it_is_downloaded_once_and_loaded(
    place: Callable, tiny: bytes, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (place('zoo:tiny') == 0.25).all()
    monkeypatch.setenv('GRAFT_OFFLINE', '1')
    assert (place('zoo:tiny') == 0.25).all()
    assert len(server.requests) == 1


@pytest.mark.parametrize('place', PLACES, ids=lambda place: place.__name__)
def test_what_goes_wrong_is_said(
    place: Callable, tiny: bytes, server: Server, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"the zoo has no file 'tini'; did you mean tiny\?"):
        place('zoo:tini')
    publish(tiny, sha256=0)
    with pytest.raises(CheckpointError, match='no hash of tiny is published'):
        place('zoo:tiny')
    publish(tiny)
    server.answers = [answer('200 OK', b'other', 'Content-Length: 5')]
    with pytest.raises(CheckpointError, match='has SHA-256'):
        place('zoo:tiny')
    monkeypatch.setenv('GRAFT_OFFLINE', '1')
    with pytest.raises(CheckpointError, match='offline mode does not allow'):
        place('zoo:tiny')


@pytest.mark.parametrize('place', PLACES, ids=lambda place: place.__name__)
def test_a_mirror(
    place: Callable, tiny: bytes, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'mirror').mkdir()
    (tmp_path / 'mirror' / 'tiny.pth').write_bytes(tiny)
    monkeypatch.setenv('GRAFT_MIRROR', str(tmp_path / 'mirror'))
    monkeypatch.setenv('GRAFT_OFFLINE', '1')
    assert (place('zoo:tiny') == 0.25).all()
    assert server.requests == []


def test_the_first_file_that_fits_a_model(publish: Publish, tiny: bytes) -> None:
    publish(tiny, config=SMALL)
    assert (get_model(SMALL, pretrained=True).backbone.pos_embed == 0.25).all()


def test_the_tool_test(tiny: bytes, folder: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / 'config.py', {**tiny_config('mim'), 'model': mae_config(small())})
    done = call_tool('test', config, 'zoo:tiny', '--work-dir', tmp_path / 'run', '--protocols', 'knn', *fresh_name())
    assert done.code == 0, done.err
    (row,) = read_rows(tmp_path / 'run' / 'results.jsonl')
    assert row['checkpoint'] == str(folder / 'tiny.pth')
    assert row['checkpoint_sha256'] == file_sha256(folder / 'tiny.pth')
    assert 'did you mean tiny' in call_tool('test', config, 'zoo:tini', '--work-dir', tmp_path / 'run').error()


def test_a_training_run(tiny: bytes, server: Server, tmp_path: Path) -> None:
    model = mae_config(small(), graft=[{'checkpoint': 'zoo:tiny'}])
    content = {**tiny_config('mim', images=8, epochs=1), 'model': model}
    config = write_config(tmp_path / 'config.py', content)
    done = call_tool('train', config, '--work-dir', tmp_path / 'run', *fresh_name())
    assert done.code == 0, done.err
    trained = read_state(tmp_path / 'run' / 'epoch_1.pth')['backbone.pos_embed']
    assert (trained - 0.25).abs().max() < 0.01
    assert len(server.requests) == 1


def test_fine_tuning(tiny: bytes, folder: Path, tmp_path: Path) -> None:
    config = finetune_config(model=dict(backbone=small(), head=dict(in_channels=64)))
    cfg = training_config(write_config(tmp_path / 'config.py', config))
    run = prepare_finetuning(cfg, 'zoo:tiny')
    assert run.checkpoint == cfg.model.graft[0]['checkpoint'] == str(folder / 'tiny.pth')
    assert run.sha256 == file_sha256(folder / 'tiny.pth')


def test_comparisons(tiny: bytes, folder: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / 'config.py', tiny_config('mim'))
    (compared,) = read_compared(str(config), ['mine=zoo:tiny'])
    assert (compared.name, compared.checkpoint) == ('mine', folder / 'tiny.pth')


def test_conversion(tiny: bytes, tmp_path: Path) -> None:
    convert_file('zoo:tiny', tmp_path / 'out.pth', ConvertOptions(target='timm'))
    assert (read_state(tmp_path / 'out.pth')['pos_embed'] == 0.25).all()


def test_the_option_pretrained_of_training() -> None:
    from mmengine.config import Config

    cfg = Config({'model': {'backbone': {'init_cfg': {'type': 'Pretrained', 'checkpoint': 'x.pth'}}}})
    set_pretrained(cfg, 'zoo:tiny')
    assert cfg.model.backbone.init_cfg == PRETRAINED


def test_a_list(publish: Publish, server: Server, tmp_path: Path) -> None:
    for path in ('train/n01440764/n01440764_1.png', 'train/n01443537/n01443537_2.png'):
        (tmp_path / path).parent.mkdir(parents=True)
        Image.new('RGB', (2, 2)).save(tmp_path / path)
    publish(b'n01443537_2.png\nn01440764_1.png\n', url=server.url.replace('a.pth', 'list.txt'))
    for _ in range(2):
        dataset = ImageList(data_root=str(tmp_path), ann_file='zoo:tiny')
        assert dataset.labels().tolist() == [1, 0]
    assert len(server.requests) == 1
