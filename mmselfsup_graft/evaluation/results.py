"""Result rows: one line of JSON per score, with everything needed to repeat it."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process

from mmselfsup_graft.checkpoints import file_sha256
from mmselfsup_graft.datasets import SelfSupDataset, dataset_entries, write_image_list
from mmselfsup_graft.downloads.resolve import resolve_zoo
from mmselfsup_graft.engine.config.schedule_ends import with_schedule_ends
from mmselfsup_graft.evaluation.score_table import row_name
from mmselfsup_graft.registry import DATASETS
from mmselfsup_graft.utils.environment import versions
from mmselfsup_graft.utils.files import append_rows, write_json

from .per_class import write_confusion
from .score_table import notes_text, table_text
from .scoring import Evaluation, Scores, read_evaluation, score_checkpoint

_NOT_CONTENT = ('work_dir', 'launcher', 'experiment_name', 'resume', 'resume_from', 'resume_anyway', 'visualizer')


def config_sha256(cfg: Config) -> str:
    """Hash of a resolved config, independent of the files it is written in.

    The place where it runs, its name and whether it resumes from a checkpoint do not count.
    """
    return hashlib.sha256(_content_text(cfg).encode()).hexdigest()


def config_content(cfg: Config) -> dict[str, Any]:
    """What :func:`config_sha256` hashes, as plain data."""
    return json.loads(_content_text(cfg))


def _content_text(cfg: Config) -> str:
    content = {key: value for key, value in with_schedule_ends(cfg.to_dict()).items() if key not in _NOT_CONTENT}
    return json.dumps(content, sort_keys=True, default=str)


def provenance(
    config: tuple[str | os.PathLike, str],
    checkpoint: tuple[str | os.PathLike, str | None],
    checkpoint_format: str | None,
) -> dict[str, Any]:
    """Fields of every result row that describe its origin.

    Args:
        config: The config's file, and the hash of the resolved config.
        checkpoint: The scored file, and the hash of its content; ``random`` and None for fresh weights.
        checkpoint_format: Its format, None likewise.

    Returns:
        ``config``, ``config_sha256``, ``checkpoint``, ``checkpoint_sha256``, ``checkpoint_format``, ``versions``,
        ``time`` (UTC), ``processes`` (their number) and ``device``.
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f'CPU, {torch.get_num_threads()} threads'
    return {
        'config': str(config[0]),
        'config_sha256': config[1],
        'checkpoint': str(checkpoint[0]),
        'checkpoint_sha256': checkpoint[1],
        'checkpoint_format': checkpoint_format,
        'versions': versions(),
        'time': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'processes': get_world_size(),
        'device': device,
    }


def result_rows(
    cfg: Config,
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    evaluation: Evaluation,
    scores: Scores,
    block: int | None = None,
) -> list[dict[str, Any]]:
    """One row per protocol.

    Args:
        cfg: The resolved config.
        config: Its file.
        checkpoint: The scored file.
        evaluation: Data and protocols.
        scores: The scores.
        block: Block of the features; None for the final ones.

    Returns:
        Rows with ``protocol``, its ``settings`` and ``result``, ``selection`` and ``seed`` (None if nothing is
        selected or random), ``block``, ``feature``, ``images``, ``left_out`` and ``samples_sha256`` (hash of the list
        of samples) of train and test, and the fields of :func:`provenance`.
    """
    common = {
        'block': block,
        'feature': scores.feature,
        'images': scores.images,
        'left_out': scores.left_out,
        'samples_sha256': scores.samples,
        **provenance((config, config_sha256(cfg)), (checkpoint, file_sha256(checkpoint)), scores.checkpoint_format),
    }
    rows = []
    for name, protocol in evaluation.protocols.items():
        settings = asdict(protocol)
        own = {'selection': settings.get('selection'), 'seed': settings.get('seed')}
        row = {'protocol': name, 'settings': settings, 'result': scores.results[name], **own, **common}
        rows.append(json.loads(json.dumps(row)))
    return rows


def keep_config(cfg: Config, digest: str) -> None:
    """Write the resolved config into its work directory, with the hash of the rows in its name."""
    path = Path(cfg.work_dir) / f'config_{digest[:12]}.json'
    write_json(path, cfg.to_dict(), default=str)


def write_drawn(dataset: SelfSupDataset, work_dir: str | os.PathLike) -> None:
    """Write the list of labeled images of a drawn training set next to its results: ``train_images.txt``, and the names
    of their classes, which :class:`ImageList` reads.
    """
    path = Path(work_dir) / 'train_images.txt'
    write_image_list(dataset_entries(dataset), str(path), overwrite=True)
    write_json(Path(f'{path}.json'), {'classes': dataset.classes})


def score_and_record(
    cfg: Config,
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    protocols: Sequence[str] | None = None,
    block: int | None = None,
    features: str | os.PathLike | None = None,
) -> tuple[list[dict[str, Any]], str] | None:
    """Score a checkpoint and append its rows to ``results.jsonl`` of ``cfg.work_dir``.

    Args:
        cfg: The resolved config, with ``work_dir``.
        config: Its file.
        checkpoint: The file to score, or ``zoo:NAME``.
        protocols: Only these; None takes all of the ``evaluation`` section.
        block: Block of the features; None takes that of the section, the final ones without any.
        features: Folder for extracted features; None is ``features`` in the work directory.

    Returns:
        The rows, and a table to show; None on all processes but the first.
    """
    evaluation = read_evaluation(cfg, protocols)
    checkpoint = resolve_zoo(checkpoint)
    block = evaluation.block if block is None else block
    folder = Path(features or Path(cfg.work_dir) / 'features')
    scores = score_checkpoint(cfg, checkpoint, evaluation, block, folder)
    if not is_main_process():
        return None
    rows = result_rows(cfg, config, checkpoint, evaluation, scores, block)
    if 'part' in evaluation.data['train']:
        write_drawn(DATASETS.build(evaluation.data['train']), cfg.work_dir)
    append_rows(Path(cfg.work_dir) / 'results.jsonl', rows)
    keep_config(cfg, rows[0]['config_sha256'])
    settings = {name: asdict(protocol) for name, protocol in evaluation.protocols.items()}
    name = row_name(Path(checkpoint).stem, scores.feature, scores.feature if evaluation.feature is None else '')
    table = table_text({'rows': {name: scores.results}, 'protocol': settings})
    left_out = [f'{count} unreadable {side} images were left out' for side, count in scores.left_out.items() if count]
    about = {'checkpoint': str(checkpoint), 'checkpoint_sha256': rows[0]['checkpoint_sha256']}
    confused = [
        write_confusion(matrix, scores.classes, Path(cfg.work_dir) / f'confusion_{protocol}.json', about)
        for protocol, matrix in scores.confusion.items()
    ]
    return rows, '\n'.join(text for text in (table, notes_text(scores.results), *left_out, *confused) if text)
