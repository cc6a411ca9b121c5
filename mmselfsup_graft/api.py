"""The public functions, for notebooks and scripts.

Each is equal to the command of the same name and returns its output. All are available as
``mmselfsup_graft.NAME``; this module is imported on first use.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from mmselfsup_graft.engine.launching.work_dir import exclusive_work_dir
from mmselfsup_graft.engine.train import load_config, training_config
from mmselfsup_graft.engine.train import train as _train
from mmselfsup_graft.evaluation.finetuning import finetune as _finetuning
from mmselfsup_graft.evaluation.results import score_and_record
from mmselfsup_graft.export.convert_file import Converted, ConvertOptions, convert_file
from mmselfsup_graft.recipes import jobs, report
from mmselfsup_graft.recipes.recipe import load_recipe
from mmselfsup_graft.utils.files import read_json
from mmselfsup_graft.zoo.index import get_model, list_models

__all__ = ['convert', 'evaluate', 'finetune', 'get_model', 'list_models', 'load_config', 'run_recipe', 'train']

Path_ = str | os.PathLike


def train(config: Path_, *, overwrite: bool = False, **options: Any) -> Runner:
    """Train a config to its end.

    Args:
        config: Config file.
        overwrite: Delete an earlier run in the work directory.
        **options: ``options``, ``work_dir``, ``resume``, ``epochs``, ``amp``, ``auto_scale_lr``, ``launcher`` of
            :func:`mmselfsup_graft.engine.train.training_config`.

    Returns:
        The runner: ``runner.model`` is trained, ``runner.work_dir`` holds checkpoints and ``history.jsonl``.

    Raises:
        ConfigError: If a key or value of the config is wrong, or the work directory holds another run.
    """
    return _train(training_config(config, **options), overwrite)


def finetune(
    config: Path_, checkpoint: Path_, *, selection: str = 'test', overwrite: bool = False, **options: Any
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
    config: Path_,
    checkpoint: Path_,
    *,
    protocols: Sequence[str] | None = None,
    block: int | None = None,
    work_dir: Path_ | None = None,
    options: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Score a frozen encoder by the protocols of a config's ``evaluation`` section.

    Args:
        config: Config file.
        checkpoint: Of any known format.
        protocols: Only these; default: all of the section.
        block: Score the feature after this number of blocks; default: the final feature.
        work_dir: Where ``results.jsonl`` is written; default: ``work_dirs/<config name>``.
        options: Overrides by dotted key.

    Returns:
        One row per protocol.
    """
    cfg = load_config(config, options)
    cfg.work_dir = os.fspath(work_dir or Path('work_dirs') / Path(config).stem)
    with exclusive_work_dir(cfg.work_dir):
        recorded = score_and_record(cfg, config, checkpoint, protocols, block)
    return recorded[0] if recorded else []


def run_recipe(
    recipe: Path_, *, work_dir: Path_ | None = None, parallel: int = 1, **options: Any
) -> dict[str, Any] | None:
    """Run the stages of a recipe, then its report; finished stages are not run again.

    Args:
        recipe: Config file with ``stages``.
        work_dir: Default: ``work_dirs/<recipe name>``.
        parallel: Number of independent stages that run in parallel.
        **options: Of :func:`mmselfsup_graft.recipes.recipe.load_recipe`.

    Returns:
        The table of the report; None where the recipe has no rows.
    """
    content = load_recipe(recipe, **options)
    folder = Path(work_dir or Path('work_dirs') / Path(recipe).stem)
    with exclusive_work_dir(folder):
        jobs.run_recipe(content, folder, parallel)
        report.write_report(content, folder)
    table = folder / 'table.json'
    return read_json(table) if table.is_file() else None


def convert(source: Path_, destination: Path_, target: str, *, dry_run: bool = False, **options: Any) -> Converted:
    """Convert the backbone of a checkpoint to another library, and check that it fits there.

    Args:
        source: Checkpoint of any known format.
        destination: File to write.
        target: Library, a key of ``mmselfsup_graft.checkpoints.TARGETS``.
        dry_run: Write nothing.
        **options: Of :class:`mmselfsup_graft.export.convert_file.ConvertOptions`.
    """
    return convert_file(source, destination, ConvertOptions(target=target, **options), dry_run)
