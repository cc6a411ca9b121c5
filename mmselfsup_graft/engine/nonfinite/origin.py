"""Search for the part of a model that produced a non-finite value."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_leaves

_ROOT = 'the model'
_LOSS, _GRADIENT = 1 << 30, 1 << 31  # beyond the number of calls of modules


def nonfinite_names(named: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Names of the tensors that hold NaN or infinity; of a sharded tensor this process looks at its own part.

    Norms of all tensors are read together, one host read per type and device. A norm may overflow although the tensor
    is finite, so tensors with such a norm are checked one by one.

    Args:
        named: Names and tensors of any shape; those that are not floating point are ignored.
    """
    together: dict[Any, list[tuple[str, torch.Tensor]]] = {}
    for name, tensor in named:
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if local.is_floating_point() and local.numel():
            together.setdefault((local.dtype, local.device), []).append((name, local.detach()))
    found = []
    for pairs in together.values():
        norms = torch.stack(list(torch._foreach_norm([tensor for _, tensor in pairs])))
        for (name, tensor), good in zip(pairs, torch.isfinite(norms).tolist()):
            if not good and not bool(torch.isfinite(tensor).all()):
                found.append(name)
    return found


class NonFiniteOrigin(NamedTuple):
    """Place of the first non-finite value.

    Attributes:
        where: Text, for example ``'the output of backbone.layers.1.ffn'``.
        order: The smaller, the earlier in the pass; comparable between processes that run the same model.
    """

    where: str
    order: int


def find_nonfinite(model: nn.Module, compute_loss: Callable[[], torch.Tensor]) -> NonFiniteOrigin | None:
    """Run a forward and a backward pass and find the first non-finite value.

    It checks the parameters, then the outputs of all modules in the order of completion, the loss,
    and then the gradients. A module is reported if it turned finite inputs into an output that is not finite, or finite
    gradients of its outputs into gradients of its inputs or parameters that are not; of nested modules the innermost.
    The host reads every tensor, so this is for one batch. Gradients of the model are replaced. Both passes always
    run, so that processes whose passes exchange tensors stay in step.

    Args:
        model: The model itself, without a wrapper that distributes it.
        compute_loss: Calls the model; returns a scalar to differentiate.

    Returns:
        The origin; None if everything is finite.
    """
    parameters = nonfinite_names(model.named_parameters())
    model.zero_grad(set_to_none=True)
    witness = _PassTrace()
    with ExitStack() as stack:
        for name, module in model.named_modules():
            for handle in witness.watch(name or _ROOT, module):
                stack.callback(handle.remove)
        loss = compute_loss()
        sound = bool(torch.isfinite(loss).all())
        loss.backward()
    if parameters:
        return NonFiniteOrigin(f'the parameter {parameters[0]}', 0)
    if witness.output is not None:
        return witness.output
    if not sound:
        return NonFiniteOrigin('the loss, computed from finite outputs', _LOSS)
    bad = nonfinite_names((n, p.grad) for n, p in model.named_parameters() if p.grad is not None)
    where = witness.gradient(bad)
    return None if where is None else NonFiniteOrigin(where, _GRADIENT)


class _PassTrace:
    """Records of hooks about one forward and backward pass.

    Attributes:
        output: The first module with finite inputs and an output that is not finite.
    """

    def __init__(self) -> None:
        self.output: NonFiniteOrigin | None = None
        self._calls = 0
        self._fed: dict[str, bool] = {}  # module -> whether its inputs were finite
        self._order: list[str] = []  # modules as they were called
        self._bad: dict[str, set[str]] = {'input': set(), 'output': set()}  # gradients that are not finite

    def watch(self, name: str, module: nn.Module) -> Iterator[Any]:
        """Register hooks on a module; yields their handles."""

        def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
            if name not in self._fed:
                self._order.append(name)
            inputs = _tensors((args, kwargs))
            self._fed[name] = all(map(_is_finite, inputs))
            self._watch_gradients(name, 'input', inputs)

        def after(_module: nn.Module, _args: Any, output: Any) -> None:
            outputs = _tensors(output)
            self._calls += 1
            if self.output is None and self._fed.get(name, True) and not all(map(_is_finite, outputs)):
                self.output = NonFiniteOrigin(f'the output of {name}', self._calls)
            self._watch_gradients(name, 'output', outputs)

        yield module.register_forward_pre_hook(before, with_kwargs=True)
        yield module.register_forward_hook(after)

    def _watch_gradients(self, name: str, side: str, tensors: list[torch.Tensor]) -> None:
        def look(gradient: torch.Tensor) -> None:
            if not _is_finite(gradient):
                self._bad[side].add(name)

        for tensor in tensors:
            if tensor.requires_grad:
                tensor.register_hook(look)

    def gradient(self, parameters: list[str]) -> str | None:
        """Place of the first non-finite gradient; ``parameters`` are those with such a gradient."""
        owners = {name.rpartition('.')[0] or _ROOT for name in parameters}
        reached = [n for n in self._order if n in self._bad['output']]
        spoiled = {*owners, *self._bad['input'], *reached}
        guilty = [n for n in self._order if n not in reached and any(_is_inside(each, n) for each in spoiled)]
        innermost = [n for n in guilty if not any(_is_inside(other, n) for other in guilty if other != n)]
        if innermost:
            return f'the gradient computed by {innermost[-1]}'  # the last one called is the first in the backward pass
        if reached:
            return f'the gradient that reaches {reached[-1]} from what is computed of its output'
        return f'the gradient of {parameters[0]}' if parameters else None


def _is_inside(name: str, other: str) -> bool:
    """Whether a module is another one or a part of it."""
    return other in (name, _ROOT) or name.startswith(f'{other}.')


def _tensors(nest: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(nest) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]


def _is_finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor.detach()).all())
