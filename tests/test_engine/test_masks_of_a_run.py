"""Masks of SimMIM and A2MIM over a run: never the same twice, with or without workers, and the same after resuming."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from test_tools.tiny_runs import merged, tiny_config, write_config

from mmselfsup_graft.engine import GraftRunner
from mmselfsup_graft.engine.train import load_config

EPOCHS, BATCHES, BATCH = 3, 2, 8


class Masks(Hook):
    """Keeps the masks that a model draws, by iteration; stops the run before one of them."""

    priority = 'LOWEST'

    def __init__(self, stop: int | None) -> None:
        self.stop, self.drawn = stop, {}

    def before_run(self, runner: Any) -> None:
        draw = runner.model.draw_mask

        def kept(inputs: torch.Tensor) -> torch.Tensor:
            self.drawn[runner.iter] = draw(inputs)
            return self.drawn[runner.iter]

        runner.model.draw_mask = kept

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.stop:
            raise KeyboardInterrupt


def masks(folder: Path, kind: str, workers: int, stop: int | None = None, resume: bool = False) -> dict:
    loader = dict(num_workers=workers, persistent_workers=False, batch_size=BATCH)
    content = merged(
        tiny_config('mim', epochs=EPOCHS),
        {
            'train_dataloader': {**loader, 'dataset': dict(indices=BATCH * BATCHES)},
            'default_hooks': {'checkpoint': dict(by_epoch=False, interval=1)},
        },
    )
    head = dict(type='SimMIMHead') if kind == 'SimMIM' else dict(type='A2MIMHead', fft_weight=0.1)
    content['model'] = dict(
        type=kind,
        mask_patch=2,
        backbone=dict(
            type='MaskedResNetCIFAR',
            depth=18,
            in_channels=1,
            stem_channels=4,
            base_channels=4,
            strides=(1, 2, 2, 1),
        ),
        neck=dict(type='PixelShuffleNeck', in_channels=32, stride=4, out_channels=1),
        head=head,
    )
    cfg = load_config(write_config(folder.parent / f'{folder.name}.py', content))
    cfg.work_dir, cfg.resume = str(folder), resume
    cfg.experiment_name = f'{folder.name}_{workers}_{stop}_{resume}_{kind}'
    runner, hook = GraftRunner.from_cfg(cfg), Masks(stop)
    runner.register_hook(hook)
    if stop is None:
        runner.train()
    else:
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    return hook.drawn


@pytest.mark.parametrize('kind', ['SimMIM', 'A2MIM'])
def test_masks_never_repeat_and_resume(kind: str, tmp_path: Path) -> None:
    whole = masks(tmp_path / 'whole', kind, workers=0)
    assert list(whole) == list(range(EPOCHS * BATCHES))
    every = torch.cat(list(whole.values())).flatten(1)  # [48, 64]
    assert every.sum(1).tolist() == [39.0] * len(every)  # ceil(0.6 * 64)
    assert len({tuple(mask) for mask in every.tolist()}) == EPOCHS * BATCHES * BATCH

    before = masks(tmp_path / 'stopped', kind, workers=2, stop=3)
    after = masks(tmp_path / 'stopped', kind, workers=2, resume=True)
    assert (list(before), list(after)) == ([0, 1, 2], [3, 4, 5])
    assert all(torch.equal(whole[step], mask) for step, mask in {**before, **after}.items())
