"""Whether an exported model gives the outputs of the model that it was made from."""

import torch

from mmselfsup_graft.errors import CheckpointError, NonFiniteError

#: largest difference of two outputs, relative to the largest output: rounding in float32 stays far below
TOLERANCE = 1e-4


def check_outputs(actual: torch.Tensor, expected: torch.Tensor, name: str, tolerance: float = TOLERANCE) -> float:
    """Compare outputs.

    Args:
        actual: Of the exported model.
        expected: Of the original, of the same shape.
        name: What was exported, for messages.
        tolerance: Largest difference that is accepted, relative to the largest absolute value of ``expected``.

    Returns:
        The largest difference, relative likewise.

    Raises:
        NonFiniteError: If the original gives NaN or infinity.
        CheckpointError: If the shapes or values differ.
    """
    if not torch.isfinite(expected).all():
        raise NonFiniteError(f'nothing written: the model gives NaN or infinite outputs, so {name} cannot be checked')
    if actual.shape != expected.shape:
        shapes = tuple(actual.shape), tuple(expected.shape)
        raise CheckpointError(f'nothing written: {name} gives outputs of the shape {shapes[0]}, expected {shapes[1]}')
    largest = expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    difference = float(((actual - expected).abs().max() / largest).nan_to_num(nan=float('inf')))
    if difference > tolerance:
        raise CheckpointError(
            f'nothing written: outputs of {name} differ by {difference:.1e} of the largest one, more than {tolerance:g}'
        )
    return difference
