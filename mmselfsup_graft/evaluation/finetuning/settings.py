"""Settings of the fine-tuning protocol of a config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmselfsup_graft.errors import ConfigError

SELECTIONS = ('test', 'holdout')


@dataclass(frozen=True)
class FineTuneProtocol:
    """Fine-tuning of the whole encoder with labels (MAE, arXiv 2111.06377; Layer Grafted Pre-training, 2302.14138).

    Attributes:
        epochs: Length of the training.
        batch_size: Images per optimizer step on one process, accumulated ones included.
        warmup_epochs: Of the learning rate.
        min_lr: Final rate of the cosine schedule, of the head.
        lr: Peak learning rate of the head; rates of the layers are shares of it.
        layer_decay: Factor from each layer to the one below; None for one rate.
        head_lr_scale: Factor of the head's rate.
        weight_decay: Of tensors with two and more dimensions, class token and position table excepted.
        drop_path: Rate of the last block.
        from_first_fc: Whether the head begins with the first layer of the projector.
        nonlinear: Whether batch norm and ReLU follow that layer.
        frozen_layers: Number of frozen blocks; the stem is frozen too.
        optimizer: Type of the optimizer.
        loss: ``cross_entropy``, or ``binary`` for a sigmoid per class (RSB, arXiv 2110.00476).
        repeats: Augmented copies of each image in an epoch, which has fewer images by this factor.
        average: Decay, ``ramp_epochs`` and ``ramp_start`` of the moving average that is evaluated; None if not used.
        clip: Largest norm of all gradients; None for no clipping.
        mixing: Type and settings of mixup, cutmix and similar; one is drawn per batch.
        label_smoothing: Share of the label that is spread over all classes.
        augmentation: Types of the training pipeline with their settings, sizes and normalization included.
        metric: Of the validation, more is better.
        validate_every: Epochs between two validations; the last epoch is always validated.
        selection: ``test``: the best epoch is chosen on the evaluation set, as in the papers; ``holdout``: on a
            held-out part of the training set, and the evaluation set is scored once.
        holdout_share: Share of every class that is held out.
        holdout_seed: Of the draw.
    """

    epochs: int = 100
    batch_size: int = 128
    lr: float = 2e-3
    layer_decay: float | None = 0.65
    head_lr_scale: float = 1.0
    weight_decay: float = 0.05
    drop_path: float = 0.1
    from_first_fc: bool = False
    nonlinear: bool = False
    frozen_layers: int = 0
    warmup_epochs: float = 5
    min_lr: float = 1e-6
    optimizer: str = 'AdamW'
    loss: str = 'cross_entropy'
    repeats: int = 1
    average: dict[str, float] | None = None
    clip: float | None = None
    mixing: tuple[dict, ...] = ()
    label_smoothing: float = 0.0
    augmentation: tuple[dict, ...] = ()
    metric: str = 'accuracy/top1'
    validate_every: int = 1
    selection: str = 'test'
    holdout_share: float = 0.1
    holdout_seed: int = 0

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise ConfigError(f'finetune: selection is {self.selection!r}; choose from {", ".join(SELECTIONS)}')
        if not 0.0 < self.holdout_share < 1.0:
            raise ConfigError(f'finetune: holdout_share is {self.holdout_share}; it must be between 0 and 1')

    @classmethod
    def from_config(cls, cfg: Mapping[str, Any], **options: Any) -> 'FineTuneProtocol':
        """Read the protocol from a config; ``options`` are settings that are not in a config (the selection)."""
        model, wrapper = cfg['model'], cfg['optim_wrapper']
        head, optimizer, rates = model['head'], wrapper['optimizer'], wrapper.get('paramwise_cfg') or {}
        steps, schedule = wrapper.get('accumulative_counts', 1), _schedule(cfg.get('param_scheduler'))
        mixing = (model.get('train_cfg') or {}).get('augments') or []
        return cls(
            epochs=cfg['train_cfg']['max_epochs'],
            batch_size=cfg['train_dataloader']['batch_size'] * steps,
            lr=optimizer['lr'],
            layer_decay=rates.get('layer_wise_decay_ratio'),
            head_lr_scale=rates.get('head_lr_scale', 1.0),
            weight_decay=optimizer.get('weight_decay', 0.0),
            drop_path=model['backbone'].get('drop_path_rate', 0.0),
            from_first_fc=str(head['type']).endswith('FirstFCHead'),
            nonlinear=head.get('nonlinear', False),
            frozen_layers=model.get('frozen_layers', 0),
            warmup_epochs=schedule.get('warmup', 0),
            min_lr=_floor(schedule, optimizer['lr']),
            optimizer=str(optimizer['type']).rpartition('.')[2],
            loss='binary' if (head.get('loss') or {}).get('use_sigmoid') else 'cross_entropy',
            repeats=_repeats(cfg['train_dataloader'].get('sampler') or {}),
            average=_average(cfg.get('custom_hooks') or []),
            clip=(wrapper.get('clip_grad') or {}).get('max_norm'),
            mixing=tuple(mixing if isinstance(mixing, list | tuple) else [mixing]),
            label_smoothing=(head.get('loss') or {}).get('label_smooth_val', 0.0),
            augmentation=tuple(cfg['train_dataloader']['dataset']['pipeline']),
            metric=cfg['default_hooks']['checkpoint']['save_best'],
            validate_every=cfg['train_cfg'].get('val_interval', 1),
            **options,
        )


def _schedule(given: Any) -> Mapping[str, Any]:
    """The first schedule of a config; without any the rate is constant."""
    schedules = [given] if isinstance(given, Mapping) else given or [{'min_ratio': 1.0}]
    return schedules[0]


def _floor(schedule: Mapping[str, Any], peak: float) -> float:
    """Final learning rate of the head."""
    floor = schedule.get('min_lr')
    return floor if floor is not None else (schedule.get('min_ratio') or 0.0) * peak


def _repeats(sampler: Mapping[str, Any]) -> int:
    return sampler.get('repeats', 3) if str(sampler.get('type')).endswith('RepeatedAugSampler') else 1


def _average(hooks: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    found = [hook for hook in hooks if str(hook.get('type')).endswith('WeightAverageHook')]
    defaults = {'decay': 0.9999, 'ramp_epochs': 0, 'ramp_start': 0.9}
    return {key: found[0].get(key, value) for key, value in defaults.items()} if found else None
