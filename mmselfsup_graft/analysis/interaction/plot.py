"""Interaction strength over orders, several models in one figure."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

from mmselfsup_graft.analysis.figures.picture_grid import save_figure
from mmselfsup_graft.errors import DataError

from .measure import InteractionStrength

matplotlib.use('Agg')
import matplotlib.pyplot as plt


def draw_interaction(
    strengths: Mapping[str, InteractionStrength], shares: Mapping[str, np.ndarray], target: Path, title: str = ''
) -> None:
    """Draw J over the order, one line per model, with a band of one standard error over the images.

    Args:
        strengths: Name -> strength per order.
        shares: Name -> order as a share of the n patches, m / n, one per entry of the strength.
        target: PNG to write.
        title: Heading.

    Raises:
        DataError: If there are no models or values.
    """
    if not strengths:
        raise DataError('no interaction strength to draw')
    figure, axis = plt.subplots(figsize=(6, 4), layout='constrained')
    for name, found in strengths.items():
        (line,) = axis.plot(shares[name], found.strength, 'o-', markersize=4, label=name)
        if np.isfinite(found.standard_error).all():
            low, high = found.strength - found.standard_error, found.strength + found.standard_error
            axis.fill_between(shares[name], low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axis.axhline(1, color='0.6', linewidth=1, linestyle=':')  # the mean over the orders
    axis.set(xlabel='order: share of the patches that are the context, m / n', ylabel='interaction strength J')
    axis.set(xlim=(-0.02, 1.02), title=title)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save_figure(figure, target, dpi=120)
