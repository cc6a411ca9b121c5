"""What follows from the size of the batch: the learning rate, and what accumulated gradients cannot give."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmselfsup_graft.engine.run_parts import param_groups_of
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models import A2MIMHead, ContrastiveHead, NTXentHead, PrototypeHead, VICRegHead

_RULES = {'linear': 1.0, 'sqrt': 0.5}  # exponent of the ratio of batch sizes


class Batch(NamedTuple):
    """What one step of the optimizer sees.

    Attributes:
        size: Images per process and micro-batch.
        processes: Number of processes.
        accumulated: Micro-batches per step.
    """

    size: int
    processes: int = 1
    accumulated: int = 1

    @property
    def total(self) -> int:
        """Images per step of the optimizer."""
        return self.size * self.processes * self.accumulated

    def __str__(self) -> str:
        parts = [f'{self.size} images', f'{self.processes} processes' if self.processes > 1 else '']
        parts.append(f'{self.accumulated} micro-batches' if self.accumulated > 1 else '')
        if not any(parts[1:]):
            return parts[0]
        return f'{self.total} images ({" x ".join(filter(None, parts))})'


def lr_factor(batch: Batch, options: Mapping[str, Any]) -> float:
    """Factor of the learning rate for a batch other than the one that it was chosen for.

    ``linear`` is the rule of Goyal et al. (arXiv 1706.02677), which the published recipes of MAE and MoCo v3 follow
    with AdamW, too; ``sqrt`` the rule for adaptive optimizers (Krizhevsky, arXiv 1404.5997; Malladi et al.,
    arXiv 2205.10287).

    Args:
        batch: What a step sees.
        options: ``auto_scale_lr`` of a config: ``base_batch_size``, images of all processes in one micro-batch;
            ``accumulated``, micro-batches per step (default 1); ``rule`` (default ``linear``); ``enable``.

    Raises:
        ConfigError: For another rule, or numbers that are not positive.
    """
    rule = options.get('rule', 'linear')
    if rule not in _RULES:
        raise ConfigError(f'auto_scale_lr.rule is {rule!r}; choose from {", ".join(_RULES)}')
    return (batch.total / base_batch(options)) ** _RULES[rule]


def base_batch(options: Mapping[str, Any]) -> int:
    """Images per step of the optimizer for which a config's learning rate was chosen; ``options`` as of a factor."""
    numbers = {'base_batch_size': options.get('base_batch_size'), 'accumulated': options.get('accumulated', 1)}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f'auto_scale_lr.{key} must be a whole number > 0, got {value!r}')
    return numbers['base_batch_size'] * numbers['accumulated']


def scale_learning_rates(optim_wrapper: OptimWrapper | OptimWrapperDict, factor: float) -> None:
    """Multiply the rate of every parameter group."""
    for group in param_groups_of(optim_wrapper):
        group['lr'] = group['lr'] * factor


def micro_batch_note(model: nn.Module, batch: Batch) -> str | None:
    """Parts of the loss that gradient accumulation does not enlarge; None if there are none.

    Args:
        model: The model itself, in training mode but for what is frozen.
        batch: What a step sees.
    """
    bound = list(dict.fromkeys(_bound_to_micro_batch(model.modules())))
    if batch.accumulated == 1 or not bound:
        return None
    return (
        f'gradients are accumulated over {batch.accumulated} micro-batches, and {" and ".join(bound)} come from one '
        f'micro-batch of {batch.size * batch.processes} images: this is not training on {batch.total} images at once. '
        'More processes, activation_checkpointing=True or a sharded model make the batch itself larger'
    )


def _bound_to_micro_batch(modules: Iterable[nn.Module]) -> Iterable[str]:
    for module in modules:
        if isinstance(module, ContrastiveHead | NTXentHead):
            yield 'negatives'
        elif isinstance(module, PrototypeHead):
            yield 'codes'
        elif isinstance(module, VICRegHead):
            yield 'variance and covariance'
        elif isinstance(module, A2MIMHead) and module.fft_focal:
            yield 'the spectrum of the mean image'
        elif isinstance(module, _BatchNorm) and module.training:  # a frozen one takes its running statistics
            yield 'batch statistics'
