"""Training steps: the whole iteration of the loop, on one batch of uint8 noise that lies on the device.

A subject is a model, ``ALGORITHM-SIZE``. Implementations of the OpenMMLab family are built by their runner from their
config file, and a step is one iteration of the runner's loop with all its hooks.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from harness.counting import compile_facts, count_step, cuda_syncs
from harness.memory import peak_in_use
from harness.task import Missing, Settings, Task
from peers import mm_configs
from peers.lightly_models import lightly_step
from peers.mm_runner import batch_of, build_loop

OURS, SLOW, COMPILED = 'ours', 'ours-slow', 'ours-compiled'
MMPRETRAIN, TUNED, LIGHTLY = 'mmpretrain', 'mmpretrain-tuned', 'lightly'
IMPLEMENTATIONS = (MMPRETRAIN, TUNED, LIGHTLY, SLOW, OURS, COMPILED)


class Model(NamedTuple):
    """What is compared on one model.

    Attributes:
        without: Implementations that do not exist, with the reason.
        reference: Implementations that ratios are taken to.
    """

    without: tuple[str, ...] = ()
    reference: tuple[str, ...] = (MMPRETRAIN, TUNED, SLOW)


_NO_TEC = Model(without=(MMPRETRAIN, TUNED, LIGHTLY), reference=(SLOW,))
_AS_PUBLISHED = Model(without=(LIGHTLY, SLOW), reference=(MMPRETRAIN, TUNED))
# the slow form compares a query with one key of the queue after the other
_QUEUE = Model(without=(SLOW,), reference=(MMPRETRAIN, TUNED))
MODELS = {
    'mae-tiny': Model(),
    'mae-vit-s': Model(),
    'mae-vit-b': Model(),
    'mae-vit-l': Model(),
    'mocov3-tiny': Model(),
    'mocov3-vit-s': Model(),
    'mocov3-vit-b': Model(),
    'moco-tiny': _QUEUE,
    'moco-r50': _QUEUE,
    'lgp-tiny': Model(),
    'lgp-vit-b': Model(),
    'simmim-tiny': _AS_PUBLISHED,
    'simmim-vit-b': _AS_PUBLISHED,
    'tec-tiny': _NO_TEC,
    'tec-vit-s': _NO_TEC,
    'tec-vit-b': _NO_TEC,
    'a2mim-tiny': _AS_PUBLISHED,
    'a2mim-r50': _AS_PUBLISHED,
    'swav-tiny': Model(),
    'swav-r50': Model(),
}


class Step(Task):
    """A training step with its counts.

    Args:
        step: One iteration.
        settings: Shared settings.
        note: See :class:`Task`.
        compiled: The step runs compiled code: the dispatcher does not see it, so only graphs and syncs are counted.
        keep: What must live as long as the step.
    """

    def __init__(
        self, step: Callable[[], Any], settings: Settings, note: str = '', compiled: bool = False, keep: Any = None
    ) -> None:
        self.step = step  # type: ignore[method-assign]
        self.settings, self.note, self.compiled, self._keep = settings, note, compiled, keep
        self.images = settings.batch_size

    def facts(self) -> dict[str, Any]:
        """Memory, FLOPs, calls, host reads, and on a GPU what torch itself reports as synchronizing."""
        memory = peak_in_use(self.step) if self.settings.device == 'cpu' and not self.compiled else {}
        facts: dict[str, Any] = compile_facts() if self.compiled else count_step(self.step, self.images)
        if self.compiled and not facts['graphs']:
            raise Missing('compile=True compiled nothing in this version of the toolbox')
        if self.settings.device == 'cuda':
            facts['syncs'] = cuda_syncs(self.step)
        return {**memory, **facts}


def build(subject: str, implementation: str, settings: Settings) -> Task:
    """The step of one implementation of a model.

    Raises:
        Missing: If it does not exist or cannot run here.
    """
    algorithm, _, size = subject.partition('-')
    if implementation in MODELS[subject].without:
        raise Missing(f'{implementation.removesuffix("-tuned")} has no {algorithm.upper()}')
    set_switches(implementation, settings)
    if implementation == LIGHTLY:
        step, note = lightly_step(algorithm, size, settings)
        return Step(step, settings, note)
    folder = tempfile.TemporaryDirectory()
    if implementation in (MMPRETRAIN, TUNED):
        cfg, note = mm_configs.mmpretrain_config(algorithm, size, settings, tuned=implementation == TUNED)
    else:
        cfg, note = mm_configs.own_config(algorithm, size, settings, folder.name, compiled=implementation == COMPILED)
    loop = build_loop(cfg, folder.name)
    if implementation == SLOW:
        use_slow_form(loop.runner.model)
    batch = batch_of(cfg, settings, mm_configs.view_sides(algorithm, cfg.benchmark_side))
    return Step(lambda: loop.run_iter(0, batch), settings, note, implementation == COMPILED, folder)


def use_slow_form(model: Any) -> None:
    """Let an algorithm compute what its form in ``tests/reference`` computes: the method as published, no savings."""
    sys.path.append(str(Path(__file__).parents[2] / 'tests'))
    import reference

    def loss(inputs: Any, data_samples: Any = None) -> dict[str, torch.Tensor]:
        return reference.losses(model, inputs)

    model.loss = loss


def set_switches(implementation: str, settings: Settings) -> None:
    """Switches that anybody can set: all but mmpretrain as shipped get TF32 and cuDNN's choice of kernels on a GPU."""
    torch.manual_seed(0)
    if settings.device == 'cuda' and implementation != MMPRETRAIN:
        torch.set_float32_matmul_precision('high')
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
