"""Fine-tuning a checkpoint: from its config to one result row."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.runner import Runner

from mmselfsup_graft.checkpoints import file_sha256, parse_graft, read_encoder, read_projector_start
from mmselfsup_graft.downloads.resolve import resolve_zoo
from mmselfsup_graft.engine.launching.existing import clear_work_dir
from mmselfsup_graft.engine.launching.work_dir import exclusive_work_dir
from mmselfsup_graft.engine.resuming.fingerprint import first_difference
from mmselfsup_graft.engine.train import prepare_distributed, train
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.evaluation.compared_checkpoints import RANDOM
from mmselfsup_graft.evaluation.other_pipeline import with_pipeline
from mmselfsup_graft.evaluation.per_class import MOST_CLASSES, ConfusionMetric, write_confusion
from mmselfsup_graft.evaluation.results import config_content, config_sha256, keep_config, provenance, write_drawn
from mmselfsup_graft.utils.files import append_rows, read_json, write_json

from .settings import FineTuneProtocol

_NEEDED = ('train_dataloader', 'val_dataloader', 'val_evaluator', 'test_dataloader', 'test_evaluator')
_STARTED = 'finetune.json'
_COMPARED = ('checkpoint_sha256', 'selection', 'config_sha256')


@dataclass(frozen=True)
class FineTuning:
    """A checked fine-tuning run.

    Attributes:
        cfg: The config with the checkpoint and the held-out part filled in.
        checkpoint: The file, or ``random`` for fresh weights.
        format: Format of the file; None for fresh weights.
        sha256: Hash of the file; None for fresh weights.
        config_sha256: Hash of the resolved config, checkpoint and held-out part not filled in.
        content: That config as plain data.
        protocol: Settings of the fine-tuning.
    """

    cfg: Config
    checkpoint: str
    format: str | None
    sha256: str | None
    config_sha256: str
    content: dict[str, Any]
    protocol: FineTuneProtocol


# ---------------------------------------------------------------- before the run
def prepare_finetuning(cfg: Config, checkpoint: str, selection: str = 'test') -> FineTuning:
    """Check config and checkpoint, and put the checkpoint into the config.

    A ``model.graft`` of one entry keeps its other keys, e.g. ``branch='momentum'``. A head that starts from the
    projector takes it from the same file. For ``selection='holdout'`` the validation data becomes a held-out part of
    the training data.

    Args:
        cfg: A checked config of ``configs/benchmarks/finetune``; it is changed.
        checkpoint: File of any known format, ``zoo:NAME``, or ``random``: the same recipe from fresh
            weights, as a baseline.
        selection: ``test`` or ``holdout``, see :class:`FineTuneProtocol`.

    Raises:
        ConfigError: If the config is not for fine-tuning, the selection is unknown, or a head needs a projector, which
            fresh weights do not have.
        CheckpointError: If the file cannot be read, or has no projector where the head needs it.
    """
    _check(cfg)
    digest, content = config_sha256(cfg), config_content(cfg)  # as written; the checkpoint has its own hash
    protocol = FineTuneProtocol.from_config(cfg, selection=selection)
    found, sha256 = None, None
    checkpoint = resolve_zoo(checkpoint)
    if checkpoint == RANDOM:
        _start_fresh(cfg, protocol)
    else:
        found, sha256 = _start_from(cfg, checkpoint, protocol), file_sha256(checkpoint)
    if selection == 'holdout':
        _hold_out(cfg, protocol)
    return FineTuning(cfg, str(checkpoint), found, sha256, digest, content, protocol)


def _start_fresh(cfg: Config, protocol: FineTuneProtocol) -> None:
    if protocol.from_first_fc:
        raise ConfigError(
            'this head starts with the first layer of a projector, which fresh weights do not have; use a config whose '
            'head is a LinearClsHead'
        )
    cfg.model.graft = None


def _start_from(cfg: Config, checkpoint: str, protocol: FineTuneProtocol) -> str:
    """Put the checkpoint into the config; returns its format."""
    entries = cfg.model.get('graft') or [{}]
    entry = {**(entries[0] if len(entries) == 1 else {}), 'checkpoint': str(checkpoint)}
    (source,) = parse_graft([entry])
    encoder = read_encoder(checkpoint, source.format, source.branch, source.unsafe_pickle)
    cfg.model.graft = [entry]
    if protocol.from_first_fc:
        start = read_projector_start(checkpoint, source.format, source.branch, source.unsafe_pickle)
        if start.weight.shape[1] != cfg.model.head.in_channels:
            raise CheckpointError(
                f'{checkpoint}: its projector has {start.weight.shape[1]} input channels, this encoder gives '
                f'{cfg.model.head.in_channels}; check the architecture and size of the checkpoint'
            )
        projector = {key: value for key, value in entry.items() if key != 'layers'}
        # the width is stored too, so that the tuned model can be built without this file
        cfg.model.head.update(projector=projector, hidden_channels=len(start.weight))
    return encoder.format


def _check(cfg: Config) -> None:
    if str(cfg.model.get('type', '')).rpartition('.')[2] != 'GraftedClassifier':
        raise ConfigError(
            f'fine-tuning needs a config with model.type GraftedClassifier, got {cfg.model.get("type")}; '
            'see configs/benchmarks/finetune'
        )
    missing = [key for key in _NEEDED if cfg.get(key) is None]
    if missing:
        raise ConfigError(f'fine-tuning needs {missing[0]} in the config; see configs/_base_/datasets/*_finetune_*')
    hook = cfg.get('default_hooks', {}).get('checkpoint', {})
    if hook.get('type') != 'SafeCheckpointHook' or not hook.get('save_best'):
        raise ConfigError(
            'fine-tuning tests its best checkpoint and needs default_hooks.checkpoint=dict(type="SafeCheckpointHook", '
            'save_best="accuracy/top1")'
        )


def _hold_out(cfg: Config, protocol: FineTuneProtocol) -> None:
    """Validate on a part of the training data, with the test pipeline, and train on the rest."""
    train_set, pipeline = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset.pipeline
    parts = train_set.get('part') or []
    parts = [parts] if isinstance(parts, Mapping) else list(parts)
    part = {'share': protocol.holdout_share, 'seed': protocol.holdout_seed}
    train_set.part = [*parts, {**part, 'rest': True}]
    loader = cfg.val_dataloader.to_dict()
    loader['dataset'] = with_pipeline(train_set.to_dict(), pipeline, part=[*parts, part], test_mode=True)
    cfg.val_dataloader = loader


# ---------------------------------------------------------------- the run
def finetune(run: FineTuning, config: str, overwrite: bool = False) -> dict[str, Any] | None:
    """Train, test the best checkpoint, and append the result row to ``results.jsonl`` in ``cfg.work_dir``.

    Args:
        run: A prepared run; ``cfg.work_dir`` must be set, ``cfg.resume`` resumes an earlier one.
        config: The config's file.
        overwrite: Delete an earlier run in ``cfg.work_dir``; rows of results are kept.

    Returns:
        The row; None on all processes but the first.

    Raises:
        ConfigError: When resuming a run that had another checkpoint or selection, or if there is an earlier run that
            must not be deleted.
    """
    prepare_distributed(run.cfg)  # before the first process writes
    with exclusive_work_dir(run.cfg.work_dir):
        return _finetune(run, config, overwrite)


def _finetune(run: FineTuning, config: str, overwrite: bool) -> dict[str, Any] | None:
    clear_work_dir(run.cfg, overwrite)
    _same_run(run)
    runner = train(run.cfg)
    counted = ConfusionMetric(run.cfg.model.head.num_classes)
    result = score_best(runner, run.protocol.metric, counted)
    confusion = counted.matrix if counted.classes <= MOST_CLASSES else None
    if not is_main_process():
        return None
    # --auto-scale-lr changes the rate when the optimizer is built
    rates = [group['initial_lr'] / group.get('lr_scale', 1.0) for group in runner.optim_wrapper.param_groups]
    settings = {**asdict(run.protocol), 'lr': max(rates)}
    settings['effective_batch'] = get_world_size() * run.protocol.batch_size
    if 'part' in run.cfg.train_dataloader.dataset:
        write_drawn(runner.train_dataloader.dataset, runner.work_dir)
    row = {
        'protocol': 'finetune',
        'settings': settings,
        'result': result,
        'selection': run.protocol.selection,
        'seed': runner.seed,
        'block': None,
        'images': {'train': len(runner.train_dataloader.dataset), 'test': len(runner.test_dataloader.dataset)},
        'left_out': {'train': getattr(runner.train_dataloader.dataset, 'num_corrupt', 0), 'test': 0},
        **provenance((config, run.config_sha256), (run.checkpoint, run.sha256), run.format),
    }
    append_rows(Path(runner.work_dir) / 'results.jsonl', [row])
    keep_config(run.cfg, run.config_sha256)
    if confusion is not None:
        classes = getattr(runner.train_dataloader.dataset, 'classes', None)
        about = {key: row[key] for key in ('checkpoint', 'checkpoint_sha256')}
        print(write_confusion(confusion, classes, Path(runner.work_dir) / 'confusion_finetune.json', about))
    return row


def _same_run(run: FineTuning) -> None:
    """Record the start of a run; raise an error when resuming it with another start."""
    path = Path(run.cfg.work_dir) / _STARTED
    now = {
        'checkpoint_sha256': run.sha256,
        'selection': run.protocol.selection,
        'config_sha256': run.config_sha256,
        'config': run.content,
    }
    before = read_json(path, 'use another --work-dir', _COMPARED) if run.cfg.get('resume') and path.is_file() else now
    differing = [key for key in _COMPARED if before.get(key) != now[key]]
    if differing:
        key = differing[0]
        text = None
        if key == 'config_sha256' and 'config' in before:  # its difference says more than its hash
            text = first_difference('its config', before.get('config'), now['config'])
        text = text or f'its {key} was {before.get(key)}, now it is {now[key]}'
        raise ConfigError(f'cannot resume the run in {run.cfg.work_dir}: {text}; use another --work-dir')
    if is_main_process():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, now)


def score_best(runner: Runner, metric: str, counted: ConfusionMetric | None = None) -> dict[str, Any]:
    """Load the best checkpoint of a finished run and score it on the test data.

    Args:
        runner: Runner after training.
        metric: Name of the score by which the best epoch was chosen.
        counted: Counts mistakes by class on the way.

    Returns:
        ``accuracy`` of the best epoch on the test data, all its ``metrics``, ``best_epoch``, ``selection_accuracy``
        (the score it was chosen by), ``last_accuracy`` (of the last epoch, on the same data as that), ``epochs``.
    """
    info = runner.message_hub.runtime_info
    last = float(runner.message_hub.get_scalar(f'val/{metric}').current())
    found = {'best_epoch': info['best_epoch'], 'selection_accuracy': info['best_score'], 'last_accuracy': last}
    barrier()  # the first process writes the file
    runner.load_checkpoint(str(_best_file(runner)))
    if counted is not None:
        runner.test_loop.evaluator.metrics.append(counted)
    metrics = runner.test_loop.run()
    scores = {name: float(value) for name, value in metrics.items()}
    return {'accuracy': scores[metric], 'metrics': scores, **found, 'epochs': runner.max_epochs}


def _best_file(runner: Runner) -> Path:
    folder = next((hook.out_dir for hook in runner.hooks if getattr(hook, 'best_metric', None)), runner.work_dir)
    return Path(folder) / runner.message_hub.get_info('best_file')


def result_text(row: dict[str, Any]) -> str:
    """The result in one line."""
    result, settings = row['result'], row['settings']
    chosen = {
        'test': 'chosen on the evaluation set, as in the papers',
        'holdout': f'chosen on a held-out {100 * settings["holdout_share"]:g} % of the training set',
    }[row['selection']]
    return (
        f'fine-tuned: {settings["metric"]} {result["accuracy"]:.2f} % with epoch {result["best_epoch"]} of '
        f'{result["epochs"]}, {chosen} ({result["selection_accuracy"]:.2f} % there; last epoch '
        f'{result["last_accuracy"]:.2f} %)'
    )
