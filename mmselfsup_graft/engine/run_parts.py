"""The model, the optimizers and the batch size of a runner, whatever wraps them."""

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch.utils.data import DataLoader


def unwrapped_model(runner: Runner) -> Any:
    """The runner's model without the wrapper that distributes it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def optim_wrappers(given: OptimWrapper | OptimWrapperDict) -> list[OptimWrapper]:
    """The wrapper of each optimizer."""
    return list(given.values()) if isinstance(given, OptimWrapperDict) else [given]


def param_groups_of(given: OptimWrapper | OptimWrapperDict) -> list[dict[str, Any]]:
    """The parameter groups of all optimizers."""
    return [group for each in optim_wrappers(given) for group in each.optimizer.param_groups]


def batch_size_of(loader: DataLoader) -> int | None:
    """Images per batch; None if unknown. A loader with its own batch sampler, as detectors have, leaves it to that."""
    return loader.batch_size or getattr(loader.batch_sampler, 'batch_size', None)


def images_left_out(runner: Runner) -> int:
    """Images of an epoch that are in no batch, because the last one is incomplete."""
    loader = runner.train_dataloader
    size = batch_size_of(loader)
    return 0 if size is None else max(0, len(loader.dataset) - len(loader) * size * runner.world_size)
