"""The report at the end of a recipe: one table of frozen-feature accuracies, and pictures."""

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mmengine.dist import broadcast_object_list, is_main_process

from mmselfsup_graft.analysis import ConflictProfile
from mmselfsup_graft.analysis.conflict.report import report_conflict
from mmselfsup_graft.errors import DataError, GraftError, NonFiniteError
from mmselfsup_graft.evaluation.encoders import load_encoder
from mmselfsup_graft.evaluation.score_table import row_name, table_text
from mmselfsup_graft.evaluation.scoring import evaluation_sets, read_evaluation, score_encoder, score_pixels
from mmselfsup_graft.recipes.page.gather import write_report_page
from mmselfsup_graft.recipes.page.pictures import name_of
from mmselfsup_graft.utils.files import write_json, write_text

from .recipe import TRAIN, Recipe, read_done, stage_checkpoint
from .report_settings import BASELINES, scored_features
from .stage_reconstructor import load_reconstructor

_Found = TypeVar('_Found')


def compare(recipe: Recipe, work_dir: Path) -> dict[str, Any]:
    """Score raw pixels, a random encoder and every row that the recipe's report names.

    ``report.features`` lists the features to score, one row each.

    Returns:
        ``rows`` (name -> scores, ``encoder``, ``feature`` and cost) and the protocols, as written to ``table.json``;
        ``not_scored``: name of an encoder that has no row, because it diverged -> why.

    Raises:
        DataError: If images have no labels, or too few; on all processes.
    """
    pixel_row, random_row = BASELINES
    rows = {entry['name']: recipe.stage(entry['stage']) for entry in recipe.report['rows']}
    cfg, cache = next(iter(rows.values())).cfg, work_dir / 'features'
    say = _announce(2 + len(rows))
    say(pixel_row)
    evaluation = read_evaluation(cfg)
    datasets = evaluation_sets(evaluation)
    pixels = _agreed(lambda: score_pixels(evaluation, datasets))
    table: dict[str, dict[str, Any]] = {pixel_row: pixels.results}
    not_scored: dict[str, str] = {}
    for name, stage in {random_row: None, **rows}.items():
        say(name)
        checkpoint = None if stage is None else stage_checkpoint(work_dir, stage.name)
        cost = {} if stage is None else _cost(recipe, stage.name, work_dir)
        try:
            encoder = load_encoder(cfg if stage is None else stage.cfg, checkpoint, evaluation.block, cache)
            features = scored_features(recipe.report, encoder.has_class_token(), encoder.own_feature())
            found = _agreed(partial(score_encoder, encoder, evaluation, features, datasets))
        except NonFiniteError as error:
            not_scored[name] = str(error)
            continue
        for feature, scores in found.items():
            row = row_name(name, feature, encoder.own_feature())
            table[row] = {**scores.results, 'encoder': name, 'feature': feature, **cost}
    return {
        'rows': table,
        'protocol': {name: asdict(each) for name, each in evaluation.protocols.items()},
        'images': pixels.images,
        'left_out': pixels.left_out,
        'not_scored': not_scored,
    }


def _agreed(work: Callable[[], _Found]) -> _Found:
    """Do the work on every process; an error of the first one, which solves and draws, is raised on all.

    Otherwise the others would wait forever in the next exchange.
    """
    outcome: list[GraftError | None] = [None]
    found: list[_Found] = []
    try:
        found.append(work())
    except GraftError as error:
        outcome = [error]
    broadcast_object_list(outcome)
    if outcome[0] is not None:
        raise outcome[0]
    return found[0]


def _cost(recipe: Recipe, name: str, work_dir: Path) -> dict[str, Any]:
    """Cost of a stage with all it depends on: ``stages``, ``train_seconds``, ``train_cpu_seconds``, ``iterations``."""
    chain = _with_needs(recipe, name)
    done = [read_done(work_dir, each) or {} for each in chain]
    keys = {'train_seconds': 'seconds', 'train_cpu_seconds': 'cpu_seconds', 'iterations': 'iterations'}
    # stages that an older version trained, or started, do not record what the CPU did
    known = {name: key for name, key in keys.items() if all(key in each for each in done)}
    return {'stages': chain, **{name: sum(each[key] for each in done) for name, key in known.items()}}


def _announce(total: int) -> Callable[[str], None]:
    """Print on the first process the current row and the estimated remaining time."""
    started, done = time.monotonic(), itertools.count()

    def say(name: str) -> None:
        number = next(done)
        left = f', {(time.monotonic() - started) / number * (total - number):.0f} s left' if number else ''
        if is_main_process():
            print(f'scoring {name} ({number + 1}/{total}{left})', flush=True)

    return say


def _with_needs(recipe: Recipe, name: str) -> list[str]:
    """The stage and all stages it depends on, in order."""
    earlier = [each for need in recipe.stage(name).needs for each in _with_needs(recipe, need)]
    return [*dict.fromkeys(earlier), name]


class Report(NamedTuple):
    """What a report found.

    Attributes:
        table: As written to ``table.json``, see :func:`compare`; None where nothing can be scored, and on all
            processes but the first.
        text: The table as text, or why there is none.
    """

    table: dict[str, Any] | None
    text: str


def write_report(recipe: Recipe, work_dir: Path) -> Report:
    """Draw the pictures, score all rows, write the table and the page.

    Over ranks: all must call it, as extraction is shared; the first one draws and writes.

    Raises:
        GraftError: If a stage is not finished.
    """
    for stage in recipe.trainings:
        stage_checkpoint(work_dir, stage.name)
    results = stage_results(recipe, work_dir)
    _agreed(partial(_draw_on_first, recipe, work_dir))
    report = _write_table(recipe, work_dir)
    texts = {name: ', '.join(_result_text(*item) for item in found.items()) for name, found in results.items()}
    write_report_page(recipe, work_dir, report.table, '' if report.table else report.text, texts)
    if results and is_main_process():
        write_json(work_dir / 'scores.json', results)
    table = [report.text] if recipe.report.get('rows') or not texts else []
    return Report(report.table, '\n'.join([*table, *(f'{name}: {text}' for name, text in texts.items())]))


def stage_results(recipe: Recipe, work_dir: Path) -> dict[str, dict[str, Any]]:
    """Name of a stage that scores or fine-tunes -> its results by protocol.

    Raises:
        GraftError: If one of them is not finished.
    """
    found = {}
    for stage in recipe.stages:
        if stage.kind == TRAIN:
            continue
        done = read_done(work_dir, stage.name)
        if done is None:
            raise GraftError(f'stage {stage.name} in {work_dir} is not finished; run the recipe to its end first')
        found[stage.name] = done.get('results', {})
    return found


def _result_text(protocol: str, result: Any) -> str:
    """One result in words; for labels per class the mean of the draws."""
    if isinstance(result, dict) and 'accuracy' in result:
        return f'{protocol} {result["accuracy"]:.2f} %'
    return f'{protocol} ' + ', '.join(
        f'{each["mean"]:.2f} % ({shots} labels per class)' for shots, each in result.items() if isinstance(each, dict)
    )


def _write_table(recipe: Recipe, work_dir: Path) -> Report:
    """Score all rows and write ``table.json`` and ``table.txt``."""
    if not recipe.report.get('rows'):
        return Report(None, 'this recipe names no rows to compare')
    try:
        result = compare(recipe, work_dir)
    except DataError as error:
        return Report(None, f'no table: {error}')
    if not is_main_process():
        return Report(None, '')
    write_json(work_dir / 'table.json', result)
    text = table_text(result)
    for side, count in result['left_out'].items():
        if count:
            text += f'\n{count} {side} images could not be read and are left out; {result["images"][side]} are scored'
    for name, why in result['not_scored'].items():
        text += f'\n{name} is not scored: {why}'
    write_text(work_dir / 'table.txt', f'{text}\n')
    return Report(result, text)


def _draw_on_first(recipe: Recipe, work_dir: Path) -> None:
    if is_main_process():
        print('drawing ...', flush=True)
        draw_pictures(recipe, work_dir)


def draw_pictures(recipe: Recipe, work_dir: Path) -> None:
    """Loss curves, learning rate over depth, reconstructions and conflict, in the work directory."""
    from mmselfsup_graft.analysis.figures.curves import draw_loss_curves, draw_lr_over_depth

    runs = {stage.name: work_dir / stage.name for stage in recipe.trainings}
    titles = [name_of(recipe, name) for name in runs]  # as in the table
    named = {
        title if titles.count(title) == 1 else f'{title} ({name})': folder
        for title, (name, folder) in zip(titles, runs.items())
    }
    draw_loss_curves(named, work_dir / 'loss_curves.png')
    draw_lr_over_depth(named, work_dir / 'lr_over_depth.png')
    for name in recipe.report.get('reconstruct', []):
        try:
            draw_stage_reconstructions(recipe, name, work_dir)
        except NonFiniteError as error:
            print(f'no reconstructions by {name}: {error}', flush=True)
    for name, folder in runs.items():
        measured = folder / 'gradient_conflict.csv'  # a stage with GradientConflictHook
        if measured.is_file():
            report_conflict(ConflictProfile.read_csv(measured), work_dir / f'conflict_{name}')


def draw_stage_reconstructions(recipe: Recipe, name: str, work_dir: Path) -> None:
    """Reconstruct test images with a masked-image stage, photographs as a whole."""
    from mmselfsup_graft.analysis.reconstruction.plot import draw_photo_reconstructions, draw_reconstructions

    stage, target = load_reconstructor(recipe, name, work_dir), work_dir / f'reconstructions_{name}.png'
    if stage.images is None:
        draw_photo_reconstructions(stage.model, stage.photos, stage.window, stage.mean, stage.std, target)
    else:
        draw_reconstructions(
            stage.model, stage.images, stage.mean, stage.std, target, 'held-out images' if stage.held_out else 'images'
        )
