"""Focal losses (Lin et al., 2017) and their gradients, in float32 at least.

mmcv's autograd functions call the gradients by themselves, hence the closed forms. ``weight`` is empty or has one
number per class; it is the class of the target whose weight counts.
"""

import torch

from mmselfsup_graft.errors import DataError

from .precision import at_least_float32

_TINY = torch.finfo(torch.float32).tiny  # below it a probability counts as this much in a logarithm


def sigmoid_focal_loss_forward(
    input: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, output: torch.Tensor, gamma: float, alpha: float
) -> None:
    """Loss of every class by itself.

    Args:
        input: [N, C], logits.
        target: [N], classes; C means none of them, and has no weight.
        weight: [C] or empty.
        output: [N, C], is filled.
        gamma: Exponent that lowers the loss of confident predictions.
        alpha: Weight of the class of the target; the others have 1 - alpha.

    Raises:
        DataError: If there are weights and a target has none. The compiled operator reads past their end.
    """
    p, hit = _probabilities(input, target)
    positive = (1 - p).pow(gamma) * p.clamp(min=_TINY).log()
    negative = p.pow(gamma) * (1 - p).clamp(min=_TINY).log()
    loss = torch.where(hit, -alpha * positive, (alpha - 1) * negative)
    output.copy_(_weighted(loss, weight, target))


def sigmoid_focal_loss_backward(
    input: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    grad_input: torch.Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Derivative of :func:`sigmoid_focal_loss_forward` by its input, into ``grad_input`` [N, C]."""
    p, hit = _probabilities(input, target)
    q = 1 - p
    positive = q.pow(gamma) * (q - gamma * p * p.clamp(min=_TINY).log())
    negative = p.pow(gamma) * (gamma * q * q.clamp(min=_TINY).log() - p)
    grad_input.copy_(_weighted(torch.where(hit, -alpha * positive, (alpha - 1) * negative), weight, target))


def _probabilities(input: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities [N, C], and where the class is that of the target."""
    (logits,) = at_least_float32(input)
    return logits.sigmoid(), target[:, None] == torch.arange(input.shape[1], device=input.device)


def _weighted(values: torch.Tensor, weight: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Values [N, C] or [N], times the weight of the target's class.

    Raises:
        DataError: If a target has no weight.
    """
    if not weight.numel():
        return values
    without = target[(target < 0) | (target >= len(weight))]
    if without.numel():
        raise DataError(
            f'focal loss: target {int(without[0])} has no weight, as weight has one number for each of the '
            f'{len(weight)} classes and none for the background; leave weight out, or leave such targets out'
        )
    factor = weight.to(values.dtype)[target]
    return values * (factor[:, None] if values.dim() == 2 else factor)


def softmax_focal_loss_forward(
    input: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, output: torch.Tensor, gamma: float, alpha: float
) -> None:
    """Loss of the class of the target.

    Args:
        input: [N, C], probabilities: mmcv computes the softmax itself.
        target: [N], classes; negative ones are ignored.
        weight: [C] or empty.
        output: [N], is filled.
        gamma: Exponent that lowers the loss of confident predictions.
        alpha: Weight of the loss.
    """
    p, known, label = _of_target(input, target)
    loss = -alpha * (1 - p).pow(gamma) * p.clamp(min=_TINY).log()
    output.copy_(torch.where(known, _weighted(loss, weight, label), 0))


def softmax_focal_loss_backward(
    input: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    buff: torch.Tensor,
    grad_input: torch.Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Derivative of the loss by the logits into ``grad_input`` [N, C], by way of ``buff`` [N].

    Other arguments as of :func:`softmax_focal_loss_forward`.
    """
    p, known, label = _of_target(input, target)
    slope = alpha * (gamma * (1 - p).pow(gamma - 1) * p * p.clamp(min=_TINY).log() - (1 - p).pow(gamma))
    slope = torch.where(known, _weighted(slope, weight, label), 0)
    buff.copy_(slope)
    hit = label[:, None] == torch.arange(input.shape[1], device=input.device)
    grad_input.copy_(slope[:, None] * (hit.to(p.dtype) - input.to(p.dtype)))


def _of_target(input: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Probability of the target's class [N], whether there is a target, and its class with 0 for none."""
    (probabilities,) = at_least_float32(input)
    known = target >= 0
    label = target.clamp(min=0)
    return probabilities.gather(1, label[:, None])[:, 0], known, label
