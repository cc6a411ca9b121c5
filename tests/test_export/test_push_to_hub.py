"""Pushing to a hub and loading from it, by its HTTP interface in this process."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_hub import FakeHub, running_hub
from helpers import build, enter_scope

import mmselfsup_graft
from mmselfsup_graft.checkpoints import file_sha256, traits_of
from mmselfsup_graft.cli import graft
from mmselfsup_graft.downloads.http_fetch import Limits
from mmselfsup_graft.errors import CheckpointError, GraftError

VIT = dict(
    type='SelfSupViT',
    arch=dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64),
    img_size=16,
    patch_size=4,
)
IMAGES = 255 * torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def reach(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does, which huggingface_hub reads when it is imported."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, 'ENDPOINT', url)
    for module in (constants, file_download):
        path = module.HUGGINGFACE_CO_URL_TEMPLATE
        path = path[path.index('/{repo_id}') :]
        monkeypatch.setattr(module, 'HUGGINGFACE_CO_URL_TEMPLATE', f'{url}{path}')


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    from huggingface_hub import constants, file_download

    for name in ('GRAFT_OFFLINE', 'HF_HUB_OFFLINE', 'http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY', 'HF_TOKEN'):
        monkeypatch.delenv(name, raising=False)
    for module in (constants, file_download.constants):
        monkeypatch.setattr(module, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('HF_TOKEN', 'hf_secret')
    with running_hub() as hub:
        reach(hub.url, monkeypatch)
        yield hub


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    enter_scope()
    torch.manual_seed(0)
    model = build({**VIT, 'out_type': 'featmap'})
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.1)
    meta = {'encoder': {**traits_of(model).as_meta(), 'mean': [100.0] * 3, 'std': [50.0] * 3}}
    path = tmp_path / 'epoch_3.pth'
    torch.save({'state_dict': {f'backbone.{n}': v for n, v in model.state_dict().items()}, 'meta': meta}, path)
    return path


def features_of(checkpoint: Path) -> torch.Tensor:
    return mmselfsup_graft.Encoder.from_checkpoint(checkpoint)(IMAGES, 'patch_mean')


def test_there_and_back(hub: FakeHub, checkpoint: Path) -> None:
    address = mmselfsup_graft.push_to_hub(checkpoint, 'me/tiny', private=True)
    assert address == f'{hub.url}/me/tiny/commit/{hub.commit_of("me/tiny")}'
    assert set(hub.repositories['me/tiny']) == {'README.md', 'config.json', 'model.safetensors'}
    assert hub.private == {'me/tiny'}
    encoder = mmselfsup_graft.Encoder.from_pretrained('me/tiny')
    assert encoder.own_feature() == 'patch_mean'
    torch.testing.assert_close(encoder(IMAGES), features_of(checkpoint))
    without = {each for each, token in zip(hub.asked, hub.tokens) if token != 'Bearer hf_secret'}
    assert all(each.startswith('PUT /blobs/') for each in without)
    hub.asked.clear()
    pinned = mmselfsup_graft.Encoder.from_pretrained('me/tiny', revision=hub.commit_of('me/tiny'))
    torch.testing.assert_close(pinned(IMAGES), features_of(checkpoint))
    assert not [each for each in hub.asked if each.startswith('GET')]  # nothing is downloaded twice


def test_without_a_connection_the_cache_is_used(
    hub: FakeHub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mmselfsup_graft.push_to_hub(checkpoint, 'me/tiny')
    mmselfsup_graft.Encoder.from_pretrained('me/tiny')
    hub.asked.clear()
    monkeypatch.setenv('GRAFT_OFFLINE', '1')
    found = mmselfsup_graft.Encoder.from_pretrained('me/tiny')(IMAGES)
    torch.testing.assert_close(found, features_of(checkpoint))
    assert not hub.asked
    with pytest.raises(CheckpointError, match='me/other is not in the cache'):
        mmselfsup_graft.Encoder.from_pretrained('me/other')


def test_the_command(hub: FakeHub, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {'protocol': 'knn', 'result': {'accuracy': 91.5}, 'checkpoint_sha256': file_sha256(checkpoint)}
    (tmp_path / 'results.jsonl').write_text(json.dumps(row) + '\n')
    options = ['--results', str(tmp_path / 'results.jsonl'), '--license', 'mit']
    graft.main(['push', str(checkpoint), 'me/tiny', *options])
    out = capsys.readouterr().out
    assert re.search(r'me/tiny: loaded by timm, outputs differ by at most \d\.\de[+-]0\d.*; 1 result rows', out)
    assert f'uploaded: {hub.url}/me/tiny/commit/' in out
    card = hub.repositories['me/tiny']['README.md'].decode()
    assert 'license: mit' in card
    assert '| knn |' in card
    hub.asked.clear()
    graft.main(['push', str(checkpoint), 'me/tiny', *options, '--folder', str(tmp_path / 'out')])
    assert (tmp_path / 'out' / 'README.md').read_text(encoding='utf-8') == card
    assert not hub.asked


def test_only_the_files_that_are_needed_are_downloaded(hub: FakeHub, checkpoint: Path) -> None:
    mmselfsup_graft.push_to_hub(checkpoint, 'me/tiny')
    hub.repositories['me/tiny'] |= {'modeling_x.py': b'raise SystemExit', 'pytorch_model.bin': b'x'}
    mmselfsup_graft.Encoder.from_pretrained('me/tiny')
    got = {path.rpartition('/')[2] for path in hub.asked if '/resolve/' in path}
    assert got == {'model.safetensors', 'config.json', 'preprocessor_config.json'}


def test_what_the_hub_lacks(hub: FakeHub, checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match='no repository me/none that you may read'):
        mmselfsup_graft.Encoder.from_pretrained('me/none')
    hub.repositories['me/pickled'] = {'pytorch_model.bin': b'x', 'config.json': b'{}'}
    with pytest.raises(CheckpointError, match=r'me/pickled has no model\.safetensors'):
        mmselfsup_graft.Encoder.from_pretrained('me/pickled')
    mmselfsup_graft.push_to_hub(checkpoint, 'me/tiny')
    with pytest.raises(CheckpointError, match='me/tiny with revision v9'):
        mmselfsup_graft.Encoder.from_pretrained('me/tiny', revision='v9')


def test_a_file_beyond_the_limit_is_not_downloaded(hub: FakeHub, checkpoint: Path) -> None:
    mmselfsup_graft.push_to_hub(checkpoint, 'me/tiny')
    hub.asked.clear()
    with pytest.raises(CheckpointError, match='expected at most 1,000 bytes'):
        mmselfsup_graft.Encoder.from_pretrained('me/tiny', limits=Limits(max_bytes=1000))
    assert not [each for each in hub.asked if each.startswith('GET')]
    hub.repositories['me/tiny']['config.json'] = b' ' * (2**20 + 1)
    with pytest.raises(CheckpointError, match=r'config\.json of me/tiny is 1,048,577 bytes'):
        mmselfsup_graft.Encoder.from_pretrained('me/tiny')


@pytest.mark.parametrize('stated', [None, 100])
def test_content_that_is_not_what_the_hub_states(hub: FakeHub, checkpoint: Path, stated: int | None) -> None:
    """Other bytes of the same length under the hash of the right ones, and a size that is wrong."""
    mmselfsup_graft.push_to_hub(checkpoint, 'me/tiny')
    files: dict[str, Any] = hub.repositories['me/tiny']
    weights = files['model.safetensors']
    if stated is None:
        files['model.safetensors as sent'] = weights[:-4] + b'\x00\x00\x00\x01'
    else:
        hub.stated['model.safetensors'] = stated
    for _ in range(2):  # what was downloaded is not kept
        with pytest.raises(CheckpointError, match=r'model\.safetensors of me/tiny|model\.safetensors from|differ'):
            mmselfsup_graft.Encoder.from_pretrained('me/tiny')


def test_a_hub_that_does_not_answer(checkpoint: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    reach('http://127.0.0.1:1', monkeypatch)
    monkeypatch.setattr('huggingface_hub.utils._http.time.sleep', lambda _: None)  # between its attempts
    with pytest.raises(CheckpointError, match=r'model\.safetensors of me/tiny could not be downloaded'):
        mmselfsup_graft.Encoder.from_pretrained('me/tiny')
    with pytest.raises(GraftError, match='me/tiny could not be uploaded'):
        mmselfsup_graft.push_to_hub(checkpoint, 'me/tiny')
