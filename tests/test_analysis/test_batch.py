"""The batch that is shown is the one that a run feeds its model."""

import pytest
import torch
from test_tools.tiny_runs import tiny_config, write_config

import mmselfsup_graft as graft
from mmselfsup_graft.analysis.batch.measure import batch_of
from mmselfsup_graft.analysis.batch.report import write_batch
from mmselfsup_graft.cli.visualization import browse_dataset
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.algorithms import MAE, MoCoV3, MultiTask


def record(monkeypatch, kind):
    """Inputs, and masks of the models' own draws, of every iteration of a run."""
    seen = []

    def recorded(name, original):
        def method(self, *args, **kwargs):
            found = original(self, *args, **kwargs)
            seen.append((name, args[0], found))
            return found

        return method

    for owner, name in ((MAE, 'draw_mask'), ({'cl': MoCoV3, 'multi': MultiTask, 'mim': MAE}[kind], 'loss')):
        monkeypatch.setattr(owner, name, recorded(name, getattr(owner, name)))
    return seen


@pytest.mark.parametrize('kind', ['mim', 'cl', 'multi'])
def test_the_batch_of_a_run(kind, tmp_path, monkeypatch):
    config = write_config(tmp_path / 'tiny.py', tiny_config(kind, images=24, batch=8, epochs=2))
    with monkeypatch.context() as patched:
        seen = record(patched, kind)
        graft.train(config, work_dir=tmp_path / 'run')
    inputs = [given for name, given, _ in seen if name == 'loss' and (kind != 'multi' or isinstance(given, list))]
    masks = [mask for name, _, mask in seen if name == 'draw_mask']
    for iteration in (0, 4):  # of the first and the second epoch
        batch = batch_of(graft.load_config(config), iteration)
        given = inputs[iteration]
        views = given if isinstance(given, list | tuple) else [given]
        assert len(batch.views) == len(views)
        for own, other in zip(batch.views, views):
            assert torch.equal(own, other)
        torch.testing.assert_close(batch.pixels(0), views[0] * 81 + 78)
        assert len(batch.masks) == (0 if kind == 'cl' else 1)
        for mask in batch.masks.values():
            expected = masks[iteration].mask.view(8, 4, 4)
            assert torch.equal(mask[:, 0, ::4, ::4], expected)
            assert torch.equal(mask, torch.nn.functional.interpolate(expected[:, None], scale_factor=4))


def test_masked_views(tmp_path):
    content = tiny_config('cl', images=8)
    content['model']['view_mask_ratio'] = 0.75
    batch = batch_of(graft.load_config(write_config(tmp_path / 'tiny.py', content)))
    assert sorted(batch.masks) == [0, 1]
    assert not torch.equal(batch.masks[0], batch.masks[1])
    for mask in batch.masks.values():
        assert (mask[:, 0, ::4, ::4].flatten(1).sum(1) == 12).all()


def test_the_callers_random_state_is_kept(tmp_path):
    cfg = graft.load_config(write_config(tmp_path / 'tiny.py', tiny_config('mim', images=8)))
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    batch_of(cfg)
    assert torch.equal(torch.rand(2), expected)


def test_page_and_wrong_input(tmp_path, capsys):
    config = write_config(tmp_path / 'tiny.py', tiny_config('mim', images=8))
    page = tmp_path / 'page.html'
    browse_dataset.main([str(config), '--out', str(page), '--num-images', '3'])
    assert '8 images, views: 1' in capsys.readouterr().out
    text = page.read_text()
    assert text.count('<figure>') == 2 * 3
    assert '<script' not in text
    cfg = graft.load_config(config)
    with pytest.raises(ConfigError, match='expected 0 or more'):
        batch_of(cfg, -1)
    with pytest.raises(ConfigError, match='at least one image'):
        write_batch(batch_of(cfg), page, 0)
    cfg.randomness.seed = None
    with pytest.raises(ConfigError, match='seed is not set'):
        batch_of(cfg)
