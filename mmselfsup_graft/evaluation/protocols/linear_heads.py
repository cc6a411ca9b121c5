"""Many linear classifiers trained together on the same features."""

import numpy as np
import torch
from mmengine.dist import all_reduce
from torch import nn

from mmselfsup_graft.models import PortableSyncBN


class LinearHeads:
    """H linear heads as one stacked tensor, each with its own learning rate and weight decay.

    SGD on the mean cross entropy of every head, with the explicit gradient, a product of two matrices. The
    released code of Layer Grafted Pre-training and MoCo v3 holds H modules and H optimizers instead.

    Over ranks: gradients are summed over the shares of the joined batch, so W processes equal one.

    Args:
        rates: [H] learning rates before the schedule's factor.
        decays: [H] weight decays; they hold for weights and biases.
        width: D, length of a feature.
        classes: C.
        seed: Of the initial weights (normal, std 0.01; biases 0).
        batch_norm: Normalize features first by a batch norm without affine part (eps 1e-6), shared by all heads.
        device: Device of the heads.
        momentum: Of SGD, as in torch: the rates multiply the sum of gradients.
    """

    def __init__(
        self,
        rates: np.ndarray,
        decays: np.ndarray,
        width: int,
        classes: int,
        seed: int = 0,
        batch_norm: bool = False,
        device: torch.device | str = 'cpu',
        momentum: float = 0.0,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(len(rates), width, classes, generator=generator) * 0.01
        self.weight = weight.to(device)  # [H, D, C]
        self.bias = torch.zeros(len(rates), 1, classes, device=device)
        self.rates = torch.tensor(rates, dtype=torch.float32, device=device).view(-1, 1, 1)
        self.decays = torch.tensor(decays, dtype=torch.float32, device=device).view(-1, 1, 1)
        self.momentum = momentum
        self._sums: list[torch.Tensor] = []  # of gradients, for momentum
        self.norm: nn.Module = PortableSyncBN(width, eps=1e-6, affine=False) if batch_norm else nn.Identity()
        self.norm = self.norm.to(device)

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Scores [H, B, C] of features [B, D]."""
        return torch.matmul(self.norm(features), self.weight) + self.bias

    @torch.no_grad()
    def step(self, features: torch.Tensor, labels: torch.Tensor, total: int, factor: float) -> None:
        """One step of SGD.

        Args:
            features: [B, D], this process's share of the batch; it may be empty.
            labels: [B].
            total: Images of the joined batch.
            factor: Of the schedule, on all learning rates.
        """
        self.norm.train()
        normed = self.norm(features)
        error = (torch.matmul(normed, self.weight) + self.bias).softmax(dim=2)  # [H, B, C]
        error[:, torch.arange(len(labels), device=error.device), labels] -= 1.0
        error /= total
        weight_grad = torch.matmul(normed.T, error)  # [H, D, C]
        bias_grad = error.sum(1, keepdim=True)  # [H, 1, C]
        values, grads = (self.weight, self.bias), [weight_grad, bias_grad]
        for value, grad in zip(values, grads):
            all_reduce(grad)
            grad += self.decays * value
        if self.momentum:
            grads = self._with_momentum(grads)
        for value, grad in zip(values, grads):
            value -= factor * self.rates * grad

    def _with_momentum(self, grads: list[torch.Tensor]) -> list[torch.Tensor]:
        if not self._sums:
            self._sums = [torch.zeros_like(grad) for grad in grads]
        for total, grad in zip(self._sums, grads):
            total.mul_(self.momentum).add_(grad)
        return self._sums

    @torch.no_grad()
    def correct(self, features: torch.Tensor, labels: torch.Tensor, chunk: int) -> torch.Tensor:
        """Number [H] of features [N, D] that each head classifies as their labels [N]; ``chunk`` rows at a time."""
        self.norm.eval()
        right = torch.zeros(len(self.weight), dtype=torch.int64, device=self.weight.device)
        for rows, truth in zip(features.split(chunk), labels.split(chunk)):
            right += (self.logits(rows).argmax(2) == truth).sum(1)
        return right

    def head(self, index: int) -> 'LinearHeads':
        """A copy of one head alone."""
        rates, decays = (each[index : index + 1].flatten().cpu().numpy() for each in (self.rates, self.decays))
        device, bn = self.weight.device, not isinstance(self.norm, nn.Identity)
        copy = LinearHeads(rates, decays, self.weight.shape[1], self.weight.shape[2], 0, bn, device)
        copy.weight, copy.bias = self.weight[index : index + 1].clone(), self.bias[index : index + 1].clone()
        copy.norm.load_state_dict(self.norm.state_dict())
        return copy
