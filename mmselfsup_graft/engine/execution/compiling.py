"""Regional compilation: every block of a network by itself, whatever surrounds it stays as it is."""

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from mmselfsup_graft.errors import ConfigError

from .stacks import BLOCKS

# Blocks of one class share their code and therefore one cache: one entry for each width, mode and rate of drop path.
_ENTRIES = 128


def compile_blocks(model: nn.Module, options: Mapping[str, Any] | None = None) -> list[str]:
    """Compile every block of a model in place; the names of its tensors stay as they are.

    Blocks that are alike are compiled once. A block must become one graph: what would break it is an error at the first
    pass. It is ``block.forward`` that is compiled: hooks of a block (a mask token that acts on its input, weights that
    FSDP gathers) run as written around it, and activation checkpointing that is set up later recomputes compiled code.
    Copies of the model are not compiled.

    Args:
        model: The model, wrapped or not.
        options: Those of :func:`torch.compile` (``backend``, ``mode``, ``dynamic``, ``options``); shapes are static
            unless they say otherwise, so another size of image compiles anew.

    Returns:
        Names of the blocks.

    Raises:
        ConfigError: For an unknown option or back-end, or if the model has no block that is known here; at the first
            pass, if a block cannot become one graph or the back-end fails.
    """
    known = set(inspect.signature(torch.compile).parameters) - {'model'}
    unknown = sorted(set(options or {}) - known)
    if unknown:
        raise ConfigError(f'compile: unknown key {unknown[0]!r}; it takes {", ".join(sorted(known))}')
    backend = (options or {}).get('backend', 'inductor')
    if isinstance(backend, str) and backend not in torch._dynamo.list_backends(exclude_tags=()):
        usual = ', '.join(torch._dynamo.list_backends())
        raise ConfigError(f'compile: backend is {backend!r}; choose from {usual}, aot_eager, eager')
    blocks = _blocks(model)
    if not blocks:
        raise ConfigError(f'compile: {type(model).__name__} has no block to compile; remove compile from the config')
    limits: Any = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, _ENTRIES)
    for name, block in blocks.items():
        _plain_numbers(block)
        block.forward = _Compiled(name, block.forward, {'fullgraph': True, 'dynamic': False, **(options or {})})
    return list(blocks)


def _blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Blocks by name, also those of a frozen base model (TEC), which is not a sub-module of what learns from it."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, BLOCKS):
            found[name] = module
        base = getattr(module, 'base_model', None)
        if isinstance(base, nn.Module) and 'base_model' not in module._modules:
            found |= {f'{name}.base_model.{key}'.lstrip('.'): block for key, block in _blocks(base).items()}
    return found


def _plain_numbers(block: nn.Module) -> None:
    """Make Python's of numpy's numbers (rates of drop path), which the compiler takes for arrays."""
    for part in block.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, np.generic):
                setattr(part, name, value.item())


class _Compiled:
    """The compiled ``forward`` of a block."""

    def __init__(self, name: str, forward: Callable[..., Any], options: dict[str, Any]) -> None:
        self.name, self.forward = name, forward
        self.compiled = torch.compile(forward, **options)

    def __deepcopy__(self, memo: dict) -> Callable[..., Any]:
        return deepcopy(self.forward, memo)  # a bound method: of the copied block

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.compiled(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise ConfigError(self._message(error)) from error

    def _message(self, error: Exception) -> str:
        kind, reason = type(getattr(self.forward, '__self__', self)).__name__, ' '.join(str(error).split())[:300]
        block = f'{self.name} ({kind})'
        # a branch on a value is one or the other, depending on the version of torch
        if isinstance(error, torch._dynamo.exc.Unsupported | torch._dynamo.exc.UserError):
            return (
                f'compile: {block} cannot be compiled to one graph: {reason}. Train without compile, or with '
                'compile=dict(fullgraph=False)'
            )
        if isinstance(error, torch._dynamo.exc.ShortenTraceback):  # of the back-end: no compiler, or one that fails
            return (
                f"compile: torch's back-end failed on {block}: {reason}. Install a compiler if it found none (C++ for "
                "a CPU, Triton for a GPU), choose another back-end, as compile=dict(backend='aot_eager'), or train "
                'without compile'
            )
        return f'compile: {block} cannot be compiled: {reason}. Train without compile'
