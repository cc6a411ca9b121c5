"""Recipes: several training stages run as one job.

A recipe is a config with ``stages``, each ``dict(name=, config=, share=, options=)``. The value ``'stage:NAME'``
anywhere in a stage's config is replaced by the final checkpoint of an earlier stage.
``share`` multiplies the epochs of a stage, schedule included, after all overrides. ``configs`` may give short names to
config files, so that recipes on other data inherit the stages and change the files; ``options`` holds overrides for all
stages. Every stage has its own folder in the recipe's work directory and writes ``done.json`` when
it is complete, so running the same command again resumes after a stop by any means.
"""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.logging import print_log

from mmselfsup_graft.checkpoints import file_sha256
from mmselfsup_graft.engine.config.check import apply_cfg_options, check_config
from mmselfsup_graft.engine.config.schedule_ends import with_schedule_ends
from mmselfsup_graft.engine.launching.work_dir import exclusive_work_dir
from mmselfsup_graft.engine.train import enable_amp, epochs_of, load_config, prepare_distributed, set_epochs, train
from mmselfsup_graft.errors import ConfigError, GraftError
from mmselfsup_graft.utils.files import read_json, write_json

from .recipe_data import allow_left_out, fit_batch, refuse_out_dir, set_data_root, without_limits
from .report_settings import check_report
from .stage_note import REPEAT, check_hash, check_values, read_note

_REFERENCE = 'stage:'
_KEYS = ('stages', 'configs', 'options', 'report')


@dataclass(frozen=True)
class Stage:
    """One training run of a recipe.

    Attributes:
        name: Folder and reference name.
        cfg: Checked config, references unresolved.
        needs: Names of the stages whose checkpoints it uses.
        fingerprint: Hash of the config and of all stages it depends on.
    """

    name: str
    cfg: Config
    needs: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True)
class Recipe:
    """Stages in order, what to report at the end, and the overrides it was read with."""

    path: Path
    stages: tuple[Stage, ...]
    report: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    amp: bool = False
    data_root: str | None = None
    epochs: int | None = None
    max_left_out: float | None = None

    def stage(self, name: str) -> Stage:
        """The stage of that name.

        Raises:
            ConfigError: If it does not exist.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = [stage.name for stage in self.stages]
        raise ConfigError(f'recipe {self.path} has no stage {name!r}; its stages are {", ".join(names)}')


def load_recipe(
    path: str | os.PathLike,
    options: dict[str, Any] | None = None,
    amp: bool = False,
    data_root: str | None = None,
    epochs: int | None = None,
    max_left_out: float | None = None,
) -> Recipe:
    """Read a recipe and check every stage before anything runs.

    Args:
        path: Recipe file.
        options: Overrides with dotted keys, for every stage that can take them.
        amp: Train all stages in half precision if the machine supports it.
        data_root: Folder for every data set that has a ``data_root``.
        epochs: Length of the longest stage; the others are scaled in proportion.
        max_left_out: Share of the files that every data set may leave out.

    Raises:
        ConfigError: For a missing file, unknown keys, a stage used before it is defined, or a faulty stage config.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f'recipe {path} does not exist; recipes lie in configs/recipes/')
    content = Config.fromfile(str(path))
    unknown = [key for key in content if key not in _KEYS and not key.startswith('_')]
    if unknown or not content.get('stages'):
        wrong = f'unknown key {unknown[0]!r}' if unknown else 'no stages'
        raise ConfigError(f'recipe {path}: {wrong}; a recipe has the keys {", ".join(_KEYS)}')
    configs = {entry.get('name'): _load_entry(path, dict(entry), content) for entry in content.stages}
    twice = [name for name, count in Counter(entry.name for entry in content.stages).items() if count > 1]
    if twice:
        raise ConfigError(f'recipe {path}: two stages are called {twice[0]!r}')
    _override(list(configs.values()), {**content.get('options', {}), **(options or {})})
    _set_lengths(configs, {entry.name: entry.get('share', 1) for entry in content.stages}, epochs)
    if amp:
        for cfg in configs.values():
            enable_amp(cfg)
    if data_root:
        set_data_root(path, list(configs.values()), data_root)
    if max_left_out is not None:
        allow_left_out(list(configs.values()), max_left_out)
    stages: list[Stage] = []
    for name, cfg in configs.items():
        stages.append(_link(path, name, cfg, stages))
    report = content.get('report', {})
    check_report(path, report, [stage.name for stage in stages])
    return Recipe(path, tuple(stages), report, options or {}, amp, data_root, epochs, max_left_out)


def _load_entry(path: Path, entry: dict, content: Config) -> Config:
    """Config of one stage: its file, its share of the epochs, its own options."""
    unknown = set(entry) - {'name', 'config', 'share', 'options'}
    if unknown or not entry.get('name') or not entry.get('config'):
        raise ConfigError(f'recipe {path}: a stage has the keys name, config, share and options, got {sorted(entry)}')
    file = content.get('configs', {}).get(entry['config'], entry['config'])
    cfg = load_config(path.parent / file)
    if not entry.get('share', 1) > 0:
        raise ConfigError(f'recipe {path}, stage {entry["name"]!r}: share must be positive, got {entry["share"]}')
    apply_cfg_options(cfg, entry.get('options', {}))
    check_config(cfg)
    return cfg


def _set_lengths(configs: dict[str, Config], shares: dict[str, float], epochs: int | None) -> None:
    """Multiply the epochs of every stage by its share, and all of them so that the longest has ``epochs``."""
    if epochs is not None and epochs < 1:
        raise ConfigError(f'the number of epochs must be at least 1, got {epochs}')
    changed = {name: cfg for name, cfg in configs.items() if epochs is not None or shares[name] != 1}
    lengths = {name: epochs_of(cfg) * shares[name] for name, cfg in changed.items()}
    factor = 1.0 if epochs is None else epochs / max(lengths.values())
    for name, cfg in changed.items():
        set_epochs(cfg, max(1, round(lengths[name] * factor)))


def _override(configs: Sequence[Config], options: dict[str, Any]) -> None:
    """Set each option in every stage that accepts it; an option that no stage accepts is an error."""
    for key in sorted(options, key=lambda name: not name.endswith('.type')):
        refusals = []
        for cfg in configs:
            try:
                apply_cfg_options(cfg, {key: options[key]})
            except ConfigError as error:
                refusals.append(error)
        if len(refusals) == len(configs):
            raise refusals[0]
    for cfg in configs:
        check_config(cfg)


def _link(path: Path, name: str, cfg: Config, earlier: Sequence[Stage]) -> Stage:
    """Determine the earlier stages that a config depends on, and its fingerprint."""
    refuse_out_dir(cfg, f'recipe {path}, stage {name!r}')
    known = {stage.name: stage for stage in earlier}
    needs = tuple(dict.fromkeys(value.removeprefix(_REFERENCE) for value in _references(cfg.to_dict())))
    for need in needs:
        if need not in known:
            raise ConfigError(f'recipe {path}: stage {name!r} uses {_REFERENCE}{need}, which is not an earlier stage')
    # how a stage is scored later does not change the stage
    content = with_schedule_ends(cfg.to_dict())
    training = {key: value for key, value in content.items() if not key.startswith('evaluation')}
    text = json.dumps(without_limits(training), sort_keys=True, default=str) + ''.join(
        known[n].fingerprint for n in needs
    )
    return Stage(name, cfg, needs, hashlib.sha256(text.encode()).hexdigest())


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _references(item)
    elif isinstance(value, str) and value.startswith(_REFERENCE):
        yield value


def _resolve(value: Any, work_dir: Path) -> Any:
    """Replace references by checkpoint paths."""
    if isinstance(value, dict):
        return {key: _resolve(item, work_dir) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_resolve(item, work_dir) for item in value)
    if isinstance(value, str) and value.startswith(_REFERENCE):
        return str(stage_checkpoint(work_dir, value.removeprefix(_REFERENCE)))
    return value


def read_done(work_dir: Path, name: str) -> dict[str, Any] | None:
    """Record of a finished stage, or None if it is not finished; see :func:`read_note`."""
    path = Path(work_dir) / name / 'done.json'
    return read_note(path) if path.is_file() else None


def stage_checkpoint(work_dir: Path, name: str) -> Path:
    """Final checkpoint of a finished stage; its hash is checked.

    Raises:
        GraftError: If the stage is not finished, or the file is missing or was changed.
    """
    done = read_done(work_dir, name)
    if done is None:
        raise GraftError(f'stage {name} in {work_dir} is not finished; run the recipe to its end first')
    checkpoint = Path(work_dir) / name / done['checkpoint']
    check_hash(checkpoint, done)
    return checkpoint


def is_done(stage: Stage, work_dir: Path) -> bool:
    """Whether the stage is complete with the same config.

    Raises:
        ConfigError: If its folder holds checkpoints of another config.
    """
    from mmselfsup_graft.engine.resuming.latest import latest_checkpoint

    folder = Path(work_dir) / stage.name
    note = folder / 'stage.json'
    done = read_done(work_dir, stage.name)
    of = [read_json(note, REPEAT, ('fingerprint',))['fingerprint']] if note.is_file() else []
    of += [done['fingerprint']] if done is not None and 'fingerprint' in done else []
    if any(each != stage.fingerprint for each in of) and (done is not None or latest_checkpoint(folder) is not None):
        raise ConfigError(
            f'{folder} was made with another config (or by another earlier stage); '
            'choose a new --work-dir, or delete that folder to run the stage again'
        )
    return done is not None


def run_stage(stage: Stage, work_dir: Path, launcher: str = 'none') -> None:
    """Run one stage in this process, from its newest checkpoint if it was started before."""
    if is_done(stage, work_dir):
        return
    folder = Path(work_dir) / stage.name
    cfg = Config(_resolve(stage.cfg.to_dict(), Path(work_dir)))
    cfg.work_dir, cfg.resume, cfg.launcher = str(folder), True, launcher
    # mmengine keeps loggers and message hubs by name; two stages in one process must not share them
    cfg.experiment_name = f'{stage.name}_{stage.fingerprint[:8]}'
    prepare_distributed(cfg)
    with exclusive_work_dir(folder):
        if is_main_process():
            write_json(folder / 'stage.json', {'fingerprint': stage.fingerprint, 'needs': stage.needs})
        lowered = fit_batch(cfg, get_world_size())
        if lowered and is_main_process():
            print_log(lowered)
        train(cfg)
        if is_main_process():
            _finish(folder, stage, [lowered] if lowered else [])
        barrier()


def _finish(folder: Path, stage: Stage, notes: list[str]) -> None:
    from mmselfsup_graft.engine.resuming.latest import latest_checkpoint

    newest = latest_checkpoint(folder)
    if newest is None:
        raise GraftError(f'stage {stage.name} ended without a checkpoint; set default_hooks.checkpoint.interval')
    progress = read_json(folder / 'progress.json', REPEAT, ('seconds', 'max_iters', 'notes'))
    note = {
        'checkpoint': Path(newest).name,
        'sha256': file_sha256(newest),
        'fingerprint': stage.fingerprint,
        'seconds': progress['seconds'],
        # unknown if an older version started it: missing, or NaN
        **{key: progress[key] for key in ('cpu_seconds',) if progress.get(key, math.nan) == progress.get(key)},
        'iterations': progress['max_iters'],
        'notes': progress['notes'],
    }
    check_values(note, folder / 'progress.json')
    write_json(folder / 'done.json', {**note, 'notes': notes + note['notes']})
