"""Maps and neighbors of held-out images by raw pixels and by the encoders of a recipe."""

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from mmselfsup_graft.analysis.embedding.chosen import choose_queries, spread
from mmselfsup_graft.analysis.embedding.measure import (
    align,
    layout,
    nearest_neighbors,
    possible_share,
    same_class_share,
)
from mmselfsup_graft.analysis.pages.shown import Embedding, Representation, Sample
from mmselfsup_graft.datasets import SelfSupDataset
from mmselfsup_graft.datasets.classes import share_classes
from mmselfsup_graft.errors import NonFiniteError
from mmselfsup_graft.evaluation import Embedded
from mmselfsup_graft.evaluation.encoders import embed_images, load_encoder, raw_pixels
from mmselfsup_graft.evaluation.score_table import FEATURE_NAMES
from mmselfsup_graft.recipes.recipe import Recipe, stage_checkpoint
from mmselfsup_graft.recipes.recipe_data import is_held_out
from mmselfsup_graft.recipes.report_settings import BASELINES, scored_features
from mmselfsup_graft.registry import DATASETS

_MOST_IMAGES = 400
FEWEST_IMAGES = 3
_MOST_ENCODERS = 3
_QUERIES, _NEIGHBORS = 6, 5

PIXELS = BASELINES[0]


def embed_held_out(recipe: Recipe, work_dir: Path, better: Mapping[str, str]) -> Embedding | None:
    """Lay out held-out images by the features of each encoder.

    Over ranks: all must call it, as extraction is shared.

    Args:
        recipe: The encoders are those of ``report.maps``, by default the first three of ``report.rows``.
        work_dir: Work directory with their checkpoints.
        better: Name of a row -> the scored feature to take; by default the first.

    Returns:
        None if the recipe has no held-out images, or fewer than three that can be read.
    """
    rows = mapped_rows(recipe)
    if not rows or 'evaluation' not in next(iter(rows.values())).cfg:
        return None
    data = next(iter(rows.values())).cfg.evaluation
    whole = DATASETS.build(data.test)
    if 'train' in data and whole.labels() is not None:
        share_classes(DATASETS.build(data.train), {'evaluation.test': whole})
    chosen = spread(whole.labels(), len(whole), _MOST_IMAGES)
    if len(chosen) < FEWEST_IMAGES:
        return None
    found = {PIXELS: embed_images(raw_pixels(), {}, dataset=whole.get_subset(chosen.tolist()))}
    without = []
    for name, stage in rows.items():
        try:
            encoder = load_encoder(stage.cfg, stage_checkpoint(work_dir, stage.name))
        except NonFiniteError:
            without.append(name)
            continue
        scored = scored_features(recipe.report, encoder.has_class_token(), encoder.own_feature())
        found[name] = embed_images(encoder, {}, scored, dataset=_subset(stage.cfg, chosen))
    without += [name for name, each in found.items() if each.non_finite()]
    diverged = tuple(name for name in rows if name in without)
    found = {name: each for name, each in found.items() if name not in diverged}
    readable = reduce(np.intersect1d, [each.indices for each in found.values()])
    if len(readable) < FEWEST_IMAGES:
        return None
    sample = _sample(whole, chosen[readable], is_held_out(next(iter(rows.values())).cfg))
    queries = choose_queries(sample.labels, len(readable), _QUERIES)
    shown, method = _represent(found, readable, better, sample.labels, queries)
    count = shown[0].neighbors.shape[1]
    possible = None if sample.labels is None else possible_share(sample.labels, count)
    by_score = any(len(each.features) > 1 and name in better for name, each in found.items())
    return Embedding(sample, method, queries, tuple(shown), possible, by_score, diverged)


def mapped_rows(recipe: Recipe) -> dict[str, Any]:
    """Name -> stage of the rows of the report that have a map."""
    stages = {row['name']: recipe.stage(row['stage']) for row in recipe.report.get('rows', [])}
    names = recipe.report.get('maps') or list(stages)[:_MOST_ENCODERS]
    return {name: stages[name] for name in names}


def _subset(cfg: Config, chosen: np.ndarray) -> SelfSupDataset:
    return DATASETS.build(cfg.evaluation.test).get_subset(chosen.tolist())


def _sample(whole: SelfSupDataset, chosen: np.ndarray, held_out: bool) -> Sample:
    images = [np.moveaxis(whole[int(number)]['inputs'].numpy(), 0, -1) for number in chosen]
    images = [image[..., 0] if image.shape[-1] == 1 else image for image in images]
    labels = whole.labels()
    names = () if labels is None else whole.classes or tuple(str(label) for label in range(int(labels.max()) + 1))
    return Sample(images, None if labels is None else labels[chosen], names, len(whole), held_out=held_out)


def _represent(
    found: Mapping[str, Embedded],
    readable: np.ndarray,
    better: Mapping[str, str],
    labels: np.ndarray | None,
    queries: np.ndarray,
) -> tuple[list[Representation], str]:
    """A map and the neighbors of each encoder, and the method of the maps; all maps are aligned with the first."""
    count = min(_NEIGHBORS, len(readable) - 1)
    shown: list[Representation] = []
    method = ''
    for name, embedded in found.items():
        feature = better.get(name, next(iter(embedded.features)))
        values = embedded.features[feature][np.searchsorted(embedded.indices, readable)]
        points, method = layout(values)
        points = align(points, shown[0].points) if shown else points - points.mean(0)
        agreement = None if labels is None else same_class_share(values, labels, count)
        several = FEATURE_NAMES[feature] if len(embedded.features) > 1 else ''
        shown.append(Representation(name, several, points, nearest_neighbors(values, queries, count), agreement))
    return shown, method
