"""The public functions, for notebooks and scripts.

Each does the work of a command (``train``, ``finetune``, ``test``, ``embed``, ``run_recipe``, ``convert``) with the
same checks, and returns the result. All are available as ``mmselfsup_graft.NAME``; this module is imported on first
use.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from mmselfsup_graft.engine.config.folder_configs import folder_config
from mmselfsup_graft.engine.launching.work_dir import default_work_dir, exclusive_work_dir
from mmselfsup_graft.engine.resuming.latest import finished
from mmselfsup_graft.engine.train import load_config, move_data, training_config
from mmselfsup_graft.engine.train import train as _train
from mmselfsup_graft.errors import ConfigError, GraftError
from mmselfsup_graft.evaluation.embedding.folder_features import Extraction, embed_data, folder_data
from mmselfsup_graft.evaluation.embedding.image_table import ImageTable
from mmselfsup_graft.evaluation.embedding.raw_images import Images
from mmselfsup_graft.evaluation.embedding.write_features import write_folder_features
from mmselfsup_graft.evaluation.encoders import Encoder
from mmselfsup_graft.evaluation.finetuning import finetune as _finetuning
from mmselfsup_graft.evaluation.finetuning.predicting import predict
from mmselfsup_graft.evaluation.results import score_and_record
from mmselfsup_graft.export.convert_file import Converted, ConvertOptions, convert_file
from mmselfsup_graft.export.sharing.pushing import push_to_hub
from mmselfsup_graft.recipes.recipe import load_recipe
from mmselfsup_graft.recipes.run_and_report import complete_recipe
from mmselfsup_graft.zoo.index import get_model, list_models
from mmselfsup_graft.zoo.model_source import encoder_of

__all__ = [
    'Encoder',
    'convert',
    'embed',
    'evaluate',
    'finetune',
    'get_model',
    'list_models',
    'load_config',
    'predict',
    'push_to_hub',
    'run_recipe',
    'train',
]

StrPath = str | os.PathLike


def train(
    config: StrPath | None = None,
    *,
    data: StrPath | None = None,
    method: str | None = None,
    img_size: int = 64,
    backbone: str = '',
    overwrite: bool = False,
    **options: Any,
) -> Runner:
    """Train a config, or a method on a folder of images, to its end.

    ``train(data='photos', method='mae')`` takes the config for folders of that method.

    Args:
        config: Config file.
        data: Folder of images.
        method: Instead of a config: ``mae``, ``mocov3`` or another one with configs for folders.
        img_size: Of the method: 64 or 224 pixels.
        backbone: Of the method: the beginning of a name, such as ``resnet``; default: a ViT if there is one.
        overwrite: Delete an earlier run in the work directory.
        **options: ``options``, ``work_dir``, ``resume``, ``epochs``, ``amp``, ``auto_scale_lr``, ``launcher``,
            ``data_root``, ``log`` of
            :func:`mmselfsup_graft.engine.train.training_config`.

    Returns:
        The runner: ``runner.model`` is trained, ``runner.work_dir`` holds checkpoints and ``history.jsonl``.

    Raises:
        ConfigError: If a key or value of the config is wrong, the work directory holds another run, or not exactly one
            of ``config`` and ``method`` is given.
        GraftError: If the run to resume is finished; no file is changed.
    """
    if (config is None) == (method is None):
        raise ConfigError("train takes a config or a method: train('config.py') or train(data='photos', method='mae')")
    path = folder_config(method, img_size, backbone) if method is not None else config
    if data is not None:
        options['data_root'] = data
    cfg = training_config(path, **options)  # type: ignore[arg-type]
    note = finished(cfg)
    if note is not None:
        raise GraftError(note)
    return _train(cfg, overwrite)


def finetune(
    config: StrPath, checkpoint: StrPath, *, selection: str = 'test', overwrite: bool = False, **options: Any
) -> dict[str, Any] | None:
    """Fine-tune a checkpoint by a fine-tuning config and test it.

    Args:
        config: Config file.
        checkpoint: Of any known format, or ``random``.
        selection: ``test`` or ``holdout``: data for choosing the best epoch.
        overwrite: Delete an earlier run in the work directory.
        **options: See :func:`train`.

    Returns:
        The result row; None on all processes but the first.
    """
    cfg = training_config(config, **options)
    run = _finetuning.prepare_finetuning(cfg, os.fspath(checkpoint), selection)
    return _finetuning.finetune(run, os.fspath(config), overwrite)


def evaluate(
    config: StrPath,
    checkpoint: StrPath,
    *,
    protocols: Sequence[str] | None = None,
    block: int | None = None,
    work_dir: StrPath | None = None,
    options: dict[str, Any] | None = None,
    data_root: StrPath | None = None,
) -> list[dict[str, Any]]:
    """Score a frozen encoder by the protocols of a config's ``evaluation`` section.

    Args:
        config: Config file.
        checkpoint: Of any known format.
        protocols: Only these; default: all of the section.
        block: Score the feature after this number of blocks; default: the final feature.
        work_dir: Where ``results.jsonl`` is written; default: ``work_dirs/<config name>``.
        options: Overrides by dotted key.
        data_root: Folder of the images.

    Returns:
        One row per protocol.
    """
    cfg = load_config(config, options)
    if data_root is not None:
        move_data(cfg, data_root)
    cfg.work_dir = os.fspath(work_dir or default_work_dir(config))
    with exclusive_work_dir(cfg.work_dir):
        recorded = score_and_record(cfg, config, checkpoint, protocols, block)
    return recorded[0] if recorded else []


def embed(
    model: StrPath | Encoder,
    images: StrPath | Images,
    *,
    out: StrPath | None = None,
    feature: str | None = None,
    labeled: bool = True,
    batch_size: int = 256,
    num_workers: int = 0,
    **options: Any,
) -> ImageTable:
    """Features of images by a frozen encoder.

    Args:
        model: Checkpoint of any known format, name of a model with weights, or an :class:`Encoder`.
        images: Folder of images; or files, Pillow's images, arrays or a tensor, see :meth:`Encoder.__call__`.
        out: For a folder: ``.parquet``, ``.npy`` or ``.csv`` to write, replaced if it exists; an interrupted call
            continues. None writes nothing.
        feature: ``class_token``, ``patch_mean`` or ``both``; None is the encoder's own.
        labeled: Whether sub-folders of a folder are read as classes, where they look like it.
        batch_size: Images per forward pass.
        num_workers: Loader processes.
        **options: ``config``, ``source``, ``block``, ``size``, ``normalization`` of
            :func:`mmselfsup_graft.zoo.model_source.encoder_of`.

    Returns:
        ``paths``, ``labels`` (names, or None) and ``vectors`` [N, D]; images of a folder that cannot be read are left
        out.
    """
    encoder = encoder_of(model, **options)
    if not isinstance(images, str | os.PathLike):
        if out is not None:
            raise ConfigError('out is for a folder of images; write_table writes the features of others')
        vectors = encoder(images, feature, batch_size).numpy()
        names = [str(each) if isinstance(each, str | os.PathLike) else str(i) for i, each in enumerate(images)]
        return ImageTable(names, None, vectors)
    how = Extraction(feature, batch_size, num_workers)
    if out is None:
        return embed_data(encoder, folder_data(encoder, os.fspath(images), labeled), how)[0]
    return write_folder_features(encoder, os.fspath(images), Path(out), how, labeled)[0]


def run_recipe(
    recipe: StrPath, *, work_dir: StrPath | None = None, jobs: int = 1, **options: Any
) -> dict[str, Any] | None:
    """Run the stages of a recipe, then its report; finished stages are not run again.

    Args:
        recipe: Config file with ``stages``.
        work_dir: Default: ``work_dirs/<recipe name>``.
        jobs: Number of independent stages that run in parallel.
        **options: Of :func:`mmselfsup_graft.recipes.recipe.load_recipe`.

    Returns:
        The table of the report, as in ``table.json``; None where nothing can be scored.

    Raises:
        ConfigError: If the recipe is wrong, or the work directory holds the report of another one.
        GraftError: If a stage fails.
    """
    content = load_recipe(recipe, **options)
    return complete_recipe(content, Path(work_dir or default_work_dir(recipe)), jobs).table


def convert(source: StrPath, destination: StrPath, target: str, *, dry_run: bool = False, **options: Any) -> Converted:
    """Convert the backbone of a checkpoint to another library, and check that it fits there.

    Args:
        source: Checkpoint of any known format.
        destination: File to write.
        target: Library, a key of ``mmselfsup_graft.checkpoints.TARGETS``.
        dry_run: Write nothing.
        **options: Of :class:`mmselfsup_graft.export.convert_file.ConvertOptions`.
    """
    return convert_file(source, destination, ConvertOptions(target=target, **options), dry_run)
