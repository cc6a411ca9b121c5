"""Optimizers and moving averages alone, on parameters of a model with random gradients; a step is one update."""

from typing import Any

import torch
from harness.counting import count_step, cuda_syncs
from harness.task import Missing, Settings, Task
from peers.mm_configs import TINY_ARCH
from torch import nn

from mmselfsup_graft.registry import MODELS, OPTIMIZERS

ADAMW = ('adamw-loop', 'adamw-foreach', 'adamw-fused')
LARS = ('mmpretrain-lars', 'ours-lars')
EMA = ('mmpretrain-ema', 'ours-ema')
IMPLEMENTATIONS = (*ADAMW, *LARS, *EMA)
SUBJECTS = {'adamw': ADAMW, 'lars': LARS, 'ema': EMA}
SIZES = ('vit-b', 'tiny')


class Update(Task):
    """One call that changes parameters.

    Args:
        update: The call.
        settings: Shared settings.
        keep: What must live as long.
    """

    def __init__(self, update: Any, settings: Settings, keep: Any) -> None:
        self.step = update  # type: ignore[method-assign]
        self.settings, self._keep = settings, keep

    def facts(self) -> dict[str, Any]:
        """Calls and host reads."""
        counted = count_step(self.step)
        facts = {'calls': sum(counted['calls'].values()), 'host_reads': counted['host_reads']}
        if self.settings.device == 'cuda':
            facts['syncs'] = cuda_syncs(self.step)
        return facts


def build(subject: str, implementation: str, settings: Settings) -> Task:
    """The update of one implementation; the subject is a kind and a size, e.g. ``adamw-vit-b``.

    Raises:
        Missing: If it is of another kind.
    """
    kind, _, size = subject.partition('-')
    if implementation not in SUBJECTS[kind]:
        raise Missing(f'is not a {kind}')
    arch: Any = TINY_ARCH if size == 'tiny' else 'base'
    torch.manual_seed(0)
    model = MODELS.build(dict(type='SelfSupViT', arch=arch, img_size=224, patch_size=16)).to(settings.device)
    if kind == 'ema':
        return Update(_average(model, implementation), settings, model)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    parameters = [p for p in model.parameters() if p.requires_grad]
    return Update(_optimizer(parameters, implementation).step, settings, model)


def _optimizer(parameters: list[nn.Parameter], implementation: str) -> Any:
    if implementation in ADAMW:
        form = implementation.removeprefix('adamw-')
        return torch.optim.AdamW(parameters, lr=1e-4, fused=form == 'fused', foreach=form == 'foreach')
    scope = 'mmpretrain' if implementation.startswith('mmpretrain') else 'mmselfsup_graft'
    config = dict(type=f'{scope}.LARS', params=parameters, lr=1e-4, momentum=0.9, weight_decay=1e-6)
    return OPTIMIZERS.build(config)


def _average(model: nn.Module, implementation: str) -> Any:
    if implementation == 'mmpretrain-ema':
        from mmengine.logging import MessageHub
        from mmpretrain.models.utils import CosineEMA

        MessageHub.get_current_instance().update_info('max_iters', 10000)
        follower = CosineEMA(model, momentum=0.01)
        follower.update_parameters(model)  # the first update copies
        return lambda: follower.update_parameters(model)
    from mmselfsup_graft.models.momentum import MomentumEncoder

    average = MomentumEncoder(model, nn.Identity())
    return lambda: average.update(model, nn.Identity(), 0.99)
