"""Conflict of two objectives over the depth of the encoder."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from mmselfsup_graft.analysis.figures.picture_grid import save_figure
from mmselfsup_graft.errors import DataError


def draw_conflict(cosines: dict[str, np.ndarray], target: Path, title: str = '', graft_at: str | None = None) -> None:
    """Draw the distribution of the cosine per group, and below it the share of negative values.

    Args:
        cosines: Group -> cosines [T] over batches, lowest group first; NaN is left out.
        target: PNG to write.
        title: Heading.
        graft_at: Name of the first group above a proposed cut; a line is drawn before it.

    Raises:
        DataError: If no group has a value.
    """
    values = {group: each[~np.isnan(each)] for group, each in cosines.items()}
    values = {group: each for group, each in values.items() if len(each)}
    if not values:
        raise DataError('no cosine to draw: every gradient was zero')
    places = range(len(values))
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(max(5, 0.6 * len(values) + 2), 5), sharex=True, height_ratios=(3, 1), layout='constrained'
    )
    upper.axhline(0, color='0.6', linewidth=1)
    upper.boxplot(list(values.values()), positions=list(places), widths=0.6, whis=(5, 95), showfliers=False)
    upper.plot(places, [each.mean() for each in values.values()], 'o-', color='tab:blue', markersize=4, label='mean')
    upper.set(ylabel='cosine of the gradients', title=title)
    upper.legend(loc='best', fontsize=8)
    lower.bar(list(places), [100 * (each < 0).mean() for each in values.values()], color='tab:red', width=0.6)
    lower.set(ylabel='% negative', ylim=(0, 100))
    lower.set_xticks(list(places), list(values), rotation=60, fontsize=8)
    if graft_at in values:
        for axis in (upper, lower):
            axis.axvline(list(values).index(graft_at) - 0.5, color='tab:green', linestyle='--')
    save_figure(figure, target, dpi=120)
