"""Codes and loss of online clustering: SwAV (Caron et al., arXiv 2006.09882). All in float32 at least."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size

from .pixels import at_least_float32

Reduce = Callable[[torch.Tensor], torch.Tensor]


def logsumexp_over_ranks(local: torch.Tensor) -> torch.Tensor:
    """``log sum_r exp(x_r)`` over the processes r: two collectives, the maximum and the sum of exponentials.

    Args:
        local: x of this process, of any shape, the same on all.
    """
    if get_world_size() == 1:
        return local
    largest = local.clone()
    all_reduce(largest, 'max')
    total = (local - largest).exp_()
    all_reduce(total)
    return total.log_().add_(largest)


@torch.no_grad()
def sinkhorn(scores: torch.Tensor, eps: float, iterations: int, reduce: Reduce = logsumexp_over_ranks) -> torch.Tensor:
    """Codes Q: ``exp(scores / eps)``, scaled so that prototypes share the samples equally and rows sum to 1.

    Every iteration scales the sums of the prototypes, then those of the samples, as in the released code; here in the
    log domain, which does not overflow for a small ``eps``.

    Over ranks: sums of prototypes run over the samples of all processes, so codes are those of one process on the
    joined batch.

    Args:
        scores: [..., N, K] of N samples and K prototypes.
        eps: Larger is softer, > 0.
        iterations: 1 or more.
        reduce: From this process's log-sums [..., K] to those of all processes.

    Returns:
        [..., N, K], constant, float32 at least.
    """
    with torch.autocast(scores.device.type, enabled=False):
        log_q = at_least_float32(scores) / eps
        for _ in range(iterations):
            log_q -= reduce(log_q.logsumexp(-2)).unsqueeze(-2)
            log_q -= log_q.logsumexp(-1, keepdim=True)
        return log_q.exp_()


@torch.no_grad()
def prediction_entropy(scores: torch.Tensor, temperature: float) -> torch.Tensor:
    """Entropy of ``softmax(scores / temperature)``, averaged over all samples: ln K if prototypes are used equally.

    Over ranks: of the local samples.

    Args:
        scores: [..., K].
        temperature: t, > 0.

    Returns:
        Scalar, constant.
    """
    with torch.autocast(scores.device.type, enabled=False):
        mean = (at_least_float32(scores) / temperature).softmax(-1).flatten(0, -2).mean(0)  # [K]
        return torch.special.entr(mean).sum()


def swapped_loss(
    scores: torch.Tensor, codes: torch.Tensor, assigned: Sequence[int], temperature: float
) -> torch.Tensor:
    """Cross entropy between the codes of every assigned crop and the predictions of all other crops, the mean of them.

    ``mean over a, v != a and b of - sum_k Q_a[b, k] log softmax_k(scores_v[b] / temperature)``

    Over ranks: the local mean; averaging the ranks' values equals one process on the joined batch.

    Args:
        scores: [V, B, K] of all crops; gradients flow through these only.
        codes: [A, B, K] of the assigned crops, constant.
        assigned: Their A numbers among the V crops.
        temperature: t, > 0.

    Returns:
        Scalar; ln K where all predictions are uniform.
    """
    with torch.autocast(scores.device.type, enabled=False):
        logits = at_least_float32(scores) / temperature
        crops, batch, _ = logits.shape
        others = torch.ones(crops, len(assigned), dtype=logits.dtype)
        others[list(assigned), range(len(assigned))] = 0.0  # a crop does not predict its own code
        others = others.to(logits.device, non_blocking=True)
        wanted = (others @ codes.detach().to(logits.dtype).flatten(1)).view_as(logits)  # [V, B, K]
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(0, 1), reduction='sum')
        return loss / (batch * len(assigned) * (crops - 1))
