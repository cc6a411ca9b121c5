"""Many small logistic regressions of equal shape, solved together."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

_MEMORY = 10  # steps that L-BFGS remembers
_DECREASE = 1e-4  # share of the linear decrease that a step must reach (Armijo)
_HALVINGS = 40
_ROUNDING = 1e-13  # smaller differences of objectives are rounding; the slope decides then

_Step = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class LogisticFits:
    """Fitted models and the solver's status for each of them.

    Attributes:
        weights: [B, D, C] float64.
        objective: [B] values of the objective at ``weights``.
        iterations: [B] of the solver.
        converged: [B] whether the gradient got below ``tol``.
    """

    weights: torch.Tensor
    objective: torch.Tensor
    iterations: torch.Tensor
    converged: torch.Tensor


@torch.no_grad()
def fit_logistic_batch(
    features: torch.Tensor, labels: torch.Tensor, classes: int, regularization: float, tol: float, max_iter: int
) -> LogisticFits:
    """Minimize ``mean cross entropy + regularization / (2 n) |W|^2`` for each of B problems, in float64.

    The optimum lies in the span of the samples: with the singular value decomposition ``X = U S Q`` it is ``W = Q' V``.
    L-BFGS therefore looks for V [r, C], r = min(n, D), on the samples ``U S``. This is exact, and small if there are
    fewer samples than channels. Every problem has its own step lengths and stops on its own.

    Args:
        features: [B, n, D], used as they are.
        labels: [B, n] int64, 0 ... C - 1.
        classes: C.
        regularization: See above; the inverse of scikit-learn's ``C``.
        tol: A problem is solved when the norm of every column of its gradient is at most this.
        max_iter: Most iterations of a problem.
    """
    left, singular, right = torch.linalg.svd(features.double(), full_matrices=False)
    problems = _Problems(left * singular.unsqueeze(1), singular, F.one_hot(labels, classes).double(), regularization)
    weights = left.new_zeros(len(left), singular.shape[1], classes)  # [B, r, C]
    logits = problems.samples @ weights  # [B, n, C]
    chances = _softmax(logits)
    gradient = problems.gradient(weights, chances)
    running, iterations = _norm(gradient) > tol, torch.zeros(len(left), dtype=torch.int64, device=left.device)
    steps: deque[_Step] = deque(maxlen=_MEMORY)
    for _ in range(max_iter):
        if not running.any():
            break
        iterations += running
        direction = -_times_inverse_hessian(gradient, problems.curvature(chances), steps)
        direction *= _each(running)
        change = problems.samples @ direction
        length = _each(_line_search(problems, (weights, logits), (direction, change), gradient))
        weights, logits = weights + length * direction, logits + length * change
        chances = _softmax(logits)
        before, gradient = gradient, problems.gradient(weights, chances)
        steps.append(_remember(length * direction, gradient - before))
        # a failed line search means that rounding allows no further progress
        running = running & (_norm(gradient) > tol) & (length.flatten() > 0)
    objective = problems.losses(logits) + problems.strength / 2 * _dot(weights, weights)
    return LogisticFits(right.mT @ weights, objective, iterations, _norm(gradient) <= tol)


@dataclass(frozen=True)
class _Problems:
    """Samples [B, n, r] with orthogonal columns of lengths ``singular`` [B, r], and one-hot classes [B, n, C]."""

    samples: torch.Tensor
    singular: torch.Tensor
    truth: torch.Tensor
    regularization: float

    @property
    def strength(self) -> float:
        """Factor of |V|^2 / 2."""
        return self.regularization / self.samples.shape[1]

    def losses(self, logits: torch.Tensor) -> torch.Tensor:
        """Mean cross entropy [B]."""
        return (logits.logsumexp(2) - (logits * self.truth).sum(2)).mean(1)

    def errors(self, chances: torch.Tensor) -> torch.Tensor:
        """Gradient of the mean cross entropy with respect to the logits, from the predictions [B, n, C]."""
        return (chances - self.truth) / chances.shape[1]

    def gradient(self, weights: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
        """Gradient of the objective [B, r, C]."""
        return self.samples.mT @ self.errors(chances) + self.strength * weights

    def curvature(self, chances: torch.Tensor) -> torch.Tensor:
        """Diagonal of the Hessian [B, r, 1], if all samples and classes had the same p (1 - p), their mean."""
        spread = (1 - chances.square().sum(2)).mean(1, keepdim=True) / chances.shape[2]  # [B, 1]
        return ((spread * self.singular.square() + self.regularization) / self.samples.shape[1]).unsqueeze(2)


def _line_search(
    problems: _Problems,
    start: tuple[torch.Tensor, torch.Tensor],
    change: tuple[torch.Tensor, torch.Tensor],
    gradient: torch.Tensor,
) -> torch.Tensor:
    """Step length [B] of each problem; 0 if no step lowers the objective.

    The logits are linear in the length, so a trial needs no product with the samples.

    Args:
        problems: The problems.
        start: Weights [B, r, C] and logits [B, n, C].
        change: Change of weights and logits for a length of 1.
        gradient: [B, r, C] at the start.
    """
    slope, square = _dot(gradient, change[0]), _dot(change[0], change[0])
    mixed = _dot(start[0], change[0])
    value, length = problems.losses(start[1]), (slope < 0).double()
    for _ in range(_HALVINGS):
        logits = start[1] + _each(length) * change[1]
        rise = problems.losses(logits) - value + problems.strength * length * (mixed + length * square / 2)
        good = rise <= _DECREASE * length * slope
        if not good.all():
            ahead = _dot(problems.errors(_softmax(logits)), change[1]) + problems.strength * (mixed + length * square)
            good |= (rise.abs() <= _ROUNDING * value) & (ahead.abs() <= 0.9 * slope.abs())
        if good.all():
            return length
        length = torch.where(good, length, length / 2)
    return torch.where(good, length, 0.0)


def _times_inverse_hessian(gradient: torch.Tensor, curvature: torch.Tensor, steps: Iterable[_Step]) -> torch.Tensor:
    """L-BFGS's two loops, [B, r, C], from a diagonal Hessian [B, r, 1] (Nocedal and Wright, algorithm 7.4)."""
    steps, shares = list(steps), []
    for moved, turned, inverse in reversed(steps):
        shares.append(_each(inverse * _dot(moved, gradient)))
        gradient = gradient - shares[-1] * turned
    direction = gradient / curvature
    for (moved, turned, inverse), share in zip(steps, reversed(shares)):
        direction = direction + moved * (share - _each(inverse * _dot(turned, direction)))
    return direction


def _remember(moved: torch.Tensor, turned: torch.Tensor) -> _Step:
    """A step, the change of the gradient and the inverse of their product; 0, to skip it, if not positive."""
    product = _dot(moved, turned)
    return moved, turned, torch.where(product > 0, 1 / product, 0.0)


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    """Over the classes; torch's own takes more than twice as long in float64."""
    return (logits - logits.logsumexp(2, keepdim=True)).exp()


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Inner products [B]."""
    return (a * b).sum((1, 2))


def _norm(gradient: torch.Tensor) -> torch.Tensor:
    """Largest norm of a column, [B]."""
    return gradient.norm(dim=1).amax(1)


def _each(values: torch.Tensor) -> torch.Tensor:
    """[B] as [B, 1, 1]."""
    return values[:, None, None]
