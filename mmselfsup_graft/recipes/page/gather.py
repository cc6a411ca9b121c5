"""Content of the report page, from a recipe and its work directory."""

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process

from mmselfsup_graft.analysis.figures.curves import peak_rates, read_history
from mmselfsup_graft.analysis.pages.document import duration
from mmselfsup_graft.analysis.pages.shown import TrainingRun
from mmselfsup_graft.evaluation.scoring import evaluation_sets, read_evaluation
from mmselfsup_graft.recipes.recipe import Recipe, read_done
from mmselfsup_graft.recipes.recipe_data import is_held_out
from mmselfsup_graft.registry import DATASETS

from .content import ReportPage
from .embedding_maps import FEWEST_IMAGES, embed_held_out
from .machine import processor, software
from .pictures import name_of, reconstructions_of
from .render import write_page
from .score_rows import better_features, page_table
from .usage import commands_for, files_of

NAME = 'report.html'


def write_report_page(
    recipe: Recipe,
    work_dir: Path,
    result: Mapping[str, Any] | None,
    why: str = '',
    results: Mapping[str, str] | None = None,
) -> Path:
    """Write ``report.html`` into the work directory of a finished recipe.

    Over ranks: all must call it, as extraction is shared; the first one draws and writes.

    Args:
        recipe: The recipe, all of its stages finished.
        work_dir: Its work directory.
        result: Result of :func:`mmselfsup_graft.recipes.report.compare`, or None if nothing could be scored.
        why: The reason in that case.
        results: Name of a stage that scores or fine-tunes -> its accuracies in words.
    """
    target = work_dir / NAME
    if is_main_process():
        print('drawing the page ...', flush=True)
    embedding = embed_held_out(recipe, work_dir, {} if result is None else better_features(result))
    if not is_main_process():
        return target
    page = ReportPage(
        title=f'{recipe.report.get("title", recipe.path.stem)} on {_data_name(recipe)}',
        summary=recipe.report.get('about', f'All trainings of {recipe.path.name}, side by side.'),
        facts={**_facts(recipe, work_dir, result), **(results or {})},
        runs=[_training_run(work_dir, stage.name, name_of(recipe, stage.name)) for stage in recipe.trainings],
        table=None if result is None else page_table(result, recipe.report.get('comparison', '')),
        no_table=why,
        embedding=embedding,
        no_embedding=f'A map needs {FEWEST_IMAGES} or more held-out images that can be read, and rows in the report.',
        reconstructions=reconstructions_of(recipe, work_dir),
        commands=commands_for(recipe, work_dir),
        files=files_of(recipe, work_dir),
    )
    write_page(page, target)
    return target


def _data_name(recipe: Recipe) -> str:
    data = recipe.trainings[0].cfg.train_dataloader.dataset
    if not data.get('data_root'):
        return data.type
    whole = os.path.abspath(data.data_root)  # '.' has no name
    return Path(whole).name or whole


def _facts(recipe: Recipe, work_dir: Path, result: Mapping[str, Any] | None) -> dict[str, str]:
    now = datetime.datetime.now()
    return {
        'When': f'{now.day} {now:%B %Y, %H:%M}',
        'Machine': processor(),
        'Software': software(),
        'Data': _describe_data(recipe, result),
        'Training': _cost_of_all([read_done(work_dir, stage.name) or {} for stage in recipe.trainings]),
    }


def _cost_of_all(done: Sequence[Mapping[str, Any]]) -> str:
    """Number of trainings and their CPU time, as trainings may have run in parallel."""
    count = f'{len(done)} training{"s" if len(done) > 1 else ""}'
    if all('cpu_seconds' in each for each in done):
        return f'{count}, {duration(sum(each["cpu_seconds"] for each in done))} of CPU time'
    return f'{count}, {duration(sum(each.get("seconds", 0.0) for each in done))} in total'


def _describe_data(recipe: Recipe, result: Mapping[str, Any] | None) -> str:
    cfg = recipe.trainings[0].cfg
    if 'evaluation' not in cfg:
        return f'{len(DATASETS.build(cfg.train_dataloader.dataset)):,} images'
    sets = evaluation_sets(read_evaluation(cfg))
    counts = {side: len(data) for side, data in sets.items()} if result is None else result['images']
    labels = sets['test'].labels()
    kinds = 'no labels' if labels is None else f'{len(sets["test"].classes or set(labels.tolist()))} classes'
    if not is_held_out(cfg):
        return f'{len(DATASETS.build({**cfg.evaluation.train, "subset": "all"})):,} images, no labels'
    return f'{counts["train"]:,} training and {counts["test"]:,} held-out images, {kinds}'


def _training_run(work_dir: Path, stage: str, name: str) -> TrainingRun:
    rows = [row for row in read_history(work_dir / stage) if 'loss' in row]  # other rows are scores of a hook
    done = read_done(work_dir, stage) or {}
    return TrainingRun(
        name,
        [row['iter'] + 1 for row in rows],
        [row['loss'] for row in rows],
        peak_rates(work_dir / stage),
        done.get('seconds', 0.0),
    )
