"""The report at the end of a recipe: one table of frozen-feature accuracies, and pictures."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from mmselfsup_graft.datasets.sample_photos import PHOTOS, sample_photo
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation import (
    FewShotProtocol,
    KNNProtocol,
    extract_features,
    few_shot_accuracies,
    knn_accuracy,
    load_backbone,
    pixels_as_features,
)
from mmselfsup_graft.registry import DATASETS, MODELS

from .recipe import Recipe, read_done, stage_checkpoint, write_json

FeatureSet = tuple[np.ndarray, np.ndarray]


def build_evaluation(cfg: Config) -> tuple[Any, Any, FewShotProtocol, KNNProtocol]:
    """Data sets and protocols from the config's ``evaluation`` section.

    Raises:
        ConfigError: If the config has no such section or it holds unknown keys.
    """
    section = cfg.get('evaluation')
    if section is None:
        raise ConfigError('this config has no `evaluation` section; see configs/_base_/evaluation/')
    unknown = sorted(set(section) - {'train', 'test', 'few_shot', 'knn'})
    if unknown:
        raise ConfigError(f'evaluation: unknown key {unknown[0]!r}; it takes train, test, few_shot and knn')
    try:
        few_shot = FewShotProtocol(**_tuples(section.get('few_shot', {})))
        knn = KNNProtocol(**section.get('knn', {}))
    except TypeError as error:
        raise ConfigError(f'evaluation: {error}') from error
    return DATASETS.build(section.train), DATASETS.build(section.test), few_shot, knn


def _tuples(options: dict) -> dict:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


def preprocessor_of(cfg: Config) -> torch.nn.Module:
    """The normalisation that a config trains with."""
    return MODELS.build({'type': 'mmpretrain.SelfSupDataPreprocessor', **_preprocessing(cfg)})


def _preprocessing(cfg: Config) -> dict[str, Any]:
    """Where mmengine looks for the preprocessor: in the model, else at the top of the config."""
    return cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}


def score(train: FeatureSet, test: FeatureSet, few_shot: FewShotProtocol, knn: KNNProtocol) -> dict[str, Any]:
    """Few-shot and k-NN accuracies of one set of features."""
    return {'few_shot': few_shot_accuracies(train, test, few_shot), 'knn': knn_accuracy(train, test, knn)}


def evaluate_checkpoint(cfg: Config, checkpoint: str | None) -> dict[str, Any]:
    """Score the frozen encoder of a checkpoint (any known format) on the config's evaluation data."""
    train_set, test_set, few_shot, knn = build_evaluation(cfg)
    backbone = load_backbone(cfg.model.backbone, checkpoint)
    backbone = backbone.cuda() if torch.cuda.is_available() else backbone
    preprocessor = preprocessor_of(cfg)
    features = [extract_features(backbone, preprocessor, data) for data in (train_set, test_set)]
    return score(features[0], features[1], few_shot, knn)


def evaluation_table(cfg: Config, checkpoint: str) -> dict[str, Any]:
    """A table of one row, the checkpoint; see :func:`compare` for the form."""
    _, _, few_shot, knn = build_evaluation(cfg)
    rows = {Path(checkpoint).stem: evaluate_checkpoint(cfg, checkpoint)}
    return {'rows': rows, 'protocol': {'few_shot': asdict(few_shot), 'knn': asdict(knn)}}


def compare(recipe: Recipe, work_dir: Path) -> dict[str, Any]:
    """Score raw pixels, a random encoder and every row that the recipe's report names.

    Returns:
        ``rows`` (name -> scores and cost) and the protocols, as written to ``table.json``.
    """
    rows = {entry['name']: recipe.stage(entry['stage']) for entry in recipe.report['rows']}
    cfg = next(iter(rows.values())).cfg
    train_set, test_set, few_shot, knn = build_evaluation(cfg)
    pixels = [pixels_as_features(data) for data in (train_set, test_set)]
    table = {'raw pixels': score(pixels[0], pixels[1], few_shot, knn)}
    table['random encoder'] = evaluate_checkpoint(cfg, None)
    for name, stage in rows.items():
        table[name] = evaluate_checkpoint(stage.cfg, str(stage_checkpoint(work_dir, stage.name)))
        chain = _with_needs(recipe, stage.name)
        cost = [read_done(work_dir, each) or {} for each in chain]
        table[name]['stages'] = chain
        table[name]['train_seconds'] = sum(each['seconds'] for each in cost)
        table[name]['iterations'] = sum(each['iterations'] for each in cost)
    return {'rows': table, 'protocol': {'few_shot': asdict(few_shot), 'knn': asdict(knn)}}


def _with_needs(recipe: Recipe, name: str) -> list[str]:
    """The stage and all it builds on, in order."""
    earlier = [each for need in recipe.stage(name).needs for each in _with_needs(recipe, need)]
    return [*dict.fromkeys(earlier), name]


def table_text(result: dict[str, Any]) -> str:
    """The table as people read it: accuracies in per cent, mean and standard deviation over draws."""
    protocol = result['protocol']
    shots = protocol['few_shot']['shots']
    titles = [f'{n} label{"s" if n > 1 else ""}' for n in shots]
    k, draws = protocol['knn']['k'], protocol['few_shot']['draws']
    with_cost = any('iterations' in row for row in result['rows'].values())
    head = f'{"":16}' + ''.join(f'{title:>14}' for title in titles) + f'{f"{k}-NN":>9}'
    head += f'{"iterations":>12}{"seconds":>9}' if with_cost else ''
    lines = [f'accuracy in %, logistic regression on n labels per class: mean ± spread over {draws} draws', head]
    for name, row in result['rows'].items():
        cells = ''.join(f'{_cell(row["few_shot"].get(n)):>14}' for n in shots)
        cost = f'{row["iterations"]:>12}{row["train_seconds"]:>9.0f}' if 'iterations' in row else ''
        lines.append(f'{name:16}{cells}{row["knn"]:>9.1f}{cost}')
    if any(len(row['few_shot']) < len(shots) for row in result['rows'].values()):
        lines.append('-: the smallest class has fewer training images than that')
    return '\n'.join(lines)


def _cell(scores: dict[str, Any] | None) -> str:
    if scores is None:
        return '-'  # more shots than the smallest class has images
    return f'{scores["mean"]:.1f} ± {scores["std"]:.1f}'


def write_report(recipe: Recipe, work_dir: Path) -> str:
    """Draw the pictures, score all rows, write ``table.json`` and ``table.txt``; returns the text to show.

    Raises:
        GraftError: If a stage is not finished.
    """
    for stage in recipe.stages:
        stage_checkpoint(work_dir, stage.name)
    print('scoring and drawing ...', flush=True)
    draw_pictures(recipe, work_dir)
    if not recipe.report.get('rows'):
        return 'this recipe names no rows to compare'
    try:
        result = compare(recipe, work_dir)
    except DataError as error:
        return f'no table: {error}'
    write_json(work_dir / 'table.json', json.loads(json.dumps(result)))
    text = table_text(result)
    (work_dir / 'table.txt').write_text(text + '\n')
    return text


def draw_pictures(recipe: Recipe, work_dir: Path) -> None:
    """Loss curves, learning rate over depth and reconstructions, as PNG in the work directory."""
    from mmselfsup_graft.visualization import draw_loss_curves, draw_lr_over_depth

    runs = {stage.name: work_dir / stage.name for stage in recipe.stages}
    draw_loss_curves(runs, work_dir / 'loss_curves.png')
    draw_lr_over_depth(runs, work_dir / 'lr_over_depth.png')
    for name in recipe.report.get('reconstruct', []):
        draw_stage_reconstructions(recipe, name, work_dir)


def draw_stage_reconstructions(recipe: Recipe, name: str, work_dir: Path) -> None:
    """Reconstruct held-out images with a masked-image stage; windows of a photograph are put together again."""
    from mmselfsup_graft.visualization import draw_photo_reconstructions, draw_reconstructions

    stage = recipe.stage(name)
    model: Any = load_model(stage.cfg, stage_checkpoint(work_dir, name))
    mean, std = (getattr(model.data_preprocessor, part).flatten().tolist() for part in ('mean', 'std'))
    target = work_dir / f'reconstructions_{name}.png'
    data = stage.cfg.train_dataloader.dataset
    if data.type == 'SamplePhotos':
        size = {'height': data.get('height', 160), 'channels': data.get('channels', 1)}
        titles = {'train': 'trained on this photo', 'test': 'never seen'}
        photos = {titles[split]: sample_photo(file, **size) for split, file in PHOTOS.items()}
        draw_photo_reconstructions(model, photos, data.get('window', 16), mean, std, target)
    else:
        images = _first_images(DATASETS.build(stage.cfg.evaluation.test), count=10)
        draw_reconstructions(model, images, mean, std, target, 'held-out images')


def load_model(cfg: Config, checkpoint: Path) -> torch.nn.Module:
    """The whole pre-training model of a config with the weights of one of its own checkpoints, in eval mode."""
    from mmselfsup_graft.checkpoints import read_checkpoint

    # its weights are all in the checkpoint: nothing is grafted again
    options = {'graft': None, 'l1_distance': None, 'data_preprocessor': _preprocessing(cfg)}
    model = MODELS.build({**cfg.model, **options})
    model.load_state_dict(read_checkpoint(checkpoint)['state_dict'])
    return model.eval()


def _first_images(dataset: Any, count: int) -> torch.Tensor:
    """``count`` images spread over a data set, [count, C, H, W] raw pixels."""
    step = max(1, len(dataset) // count)
    inputs = [dataset[i]['inputs'] for i in range(0, min(len(dataset), step * count), step)]
    return torch.stack([each[0] if isinstance(each, list | tuple) else each for each in inputs])
