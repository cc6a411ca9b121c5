"""Recipes: several training stages run as one job.

A recipe is a config with ``stages``, each ``dict(name=, config=, share=, options=, checkpoint=)``. The value
``'stage:NAME'`` anywhere in a stage's config is replaced by the final checkpoint of an earlier stage.
``share`` multiplies the epochs of a stage, schedule included, after all overrides. A stage with ``checkpoint``
fine-tunes it (``configs/benchmarks/finetune``) or scores it (the other benchmarks). ``configs`` may give short names to
config files, so that recipes on other data inherit the stages and change the files; ``options`` holds overrides for
all stages. Every stage has its own folder in the recipe's work directory and writes ``done.json`` when it is complete,
so running the same command again resumes after a stop by any means.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmselfsup_graft.engine.config.check import apply_cfg_options, check_config
from mmselfsup_graft.engine.config.schedule_ends import with_schedule_ends
from mmselfsup_graft.engine.train import enable_amp, epochs_of, load_config, set_epochs
from mmselfsup_graft.errors import ConfigError, GraftError
from mmselfsup_graft.utils.files import read_json

from .recipe_data import allow_left_out, refuse_out_dir, set_data_root, without_limits
from .report_settings import check_report
from .stage_note import REPEAT, check_hash, read_note

_REFERENCE = 'stage:'
_KEYS = ('stages', 'configs', 'options', 'report')
_STAGE_KEYS = ('name', 'config', 'share', 'options', 'checkpoint')
#: kinds of stages
TRAIN, FINETUNE, SCORE = 'train', 'finetune', 'score'


@dataclass(frozen=True)
class Stage:
    """One training, fine-tuning or scoring of a recipe.

    Attributes:
        name: Folder and reference name.
        cfg: Checked config, references unresolved.
        needs: Names of the stages whose checkpoints it uses.
        fingerprint: Hash of the config and of all stages it depends on.
        kind: :data:`TRAIN`, :data:`FINETUNE` or :data:`SCORE`.
        checkpoint: What is fine-tuned or scored, a file or a reference; None for a training.
        file: File of the config.
    """

    name: str
    cfg: Config
    needs: tuple[str, ...]
    fingerprint: str
    kind: str = TRAIN
    checkpoint: str | None = None
    file: str = ''


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

    @property
    def trainings(self) -> tuple[Stage, ...]:
        """The stages that leave a checkpoint: all but those that score."""
        return tuple(stage for stage in self.stages if stage.kind != SCORE)

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
    kinds = {entry.name: kind_of(path, dict(entry), configs[entry.name]) for entry in content.stages}
    if TRAIN not in kinds.values():
        raise ConfigError(f'recipe {path}: no stage trains; use tools/finetune.py or tools/test.py')
    training = {name: cfg for name, cfg in configs.items() if kinds[name] != SCORE}
    twice = [name for name, count in Counter(entry.name for entry in content.stages).items() if count > 1]
    if twice:
        raise ConfigError(f'recipe {path}: two stages are called {twice[0]!r}')
    _override(list(configs.values()), {**content.get('options', {}), **(options or {})})
    _set_lengths(training, {entry.name: entry.get('share', 1) for entry in content.stages}, epochs)
    if amp:
        for cfg in training.values():
            enable_amp(cfg)
    if data_root:
        set_data_root(path, list(configs.values()), data_root)
    if max_left_out is not None:
        allow_left_out(list(configs.values()), max_left_out)
    stages: list[Stage] = []
    for entry in content.stages:
        stages.append(_link(path, entry, configs[entry.name], kinds[entry.name], stages))
    report = content.get('report', {})
    check_report(path, report, [stage.name for stage in stages if stage.kind == TRAIN])
    return Recipe(path, tuple(stages), report, options or {}, amp, data_root, epochs, max_left_out)


def _load_entry(path: Path, entry: dict, content: Config) -> Config:
    """Config of one stage: its file, its share of the epochs, its own options."""
    unknown = set(entry) - set(_STAGE_KEYS)
    if unknown or not entry.get('name') or not entry.get('config'):
        known = f'{", ".join(_STAGE_KEYS[:-1])} and {_STAGE_KEYS[-1]}'
        raise ConfigError(f'recipe {path}: a stage has the keys {known}, got {sorted(entry)}')
    cfg = load_config(path.parent / content.get('configs', {}).get(entry['config'], entry['config']))
    if not entry.get('share', 1) > 0:
        raise ConfigError(f'recipe {path}, stage {entry["name"]!r}: share must be positive, got {entry["share"]}')
    apply_cfg_options(cfg, entry.get('options', {}))
    check_config(cfg)
    return cfg


def kind_of(path: Path, entry: dict, cfg: Config) -> str:
    """What a stage does.

    Raises:
        ConfigError: If a checkpoint is missing, or its config has no use for one.
    """
    where = f'recipe {path}, stage {entry["name"]!r}'
    checkpoint, trains = entry.get('checkpoint'), 'train_dataloader' in cfg
    if checkpoint is None:
        if trains:
            return TRAIN
        raise ConfigError(f"{where}: its config scores a checkpoint; give it, for example checkpoint='stage:NAME'")
    if not isinstance(checkpoint, str):
        raise ConfigError(f"{where}: checkpoint must be 'stage:NAME' or a file, got {checkpoint!r}")
    if not trains:
        if entry.get('share', 1) != 1:
            raise ConfigError(f'{where}: share is for stages that train, and this one scores')
        return SCORE
    if str(cfg.model.get('type')).rpartition('.')[2] != 'GraftedClassifier':
        raise ConfigError(
            f'{where}: checkpoint is for configs/benchmarks; a pre-training starts from model.graft in its options'
        )
    return FINETUNE


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
                _refuse_new_section(cfg, key)
                apply_cfg_options(cfg, {key: options[key]})
            except ConfigError as error:
                refusals.append(error)
        if len(refusals) == len(configs):
            raise refusals[0]
    for cfg in configs:
        check_config(cfg)


def _refuse_new_section(cfg: Config, key: str) -> None:
    """Raise an error for an option that would give a config for scoring a section of training."""
    section = key.partition('.')[0]
    if 'train_dataloader' not in cfg and section not in cfg:
        raise ConfigError(f'{key}: a config that scores a checkpoint has no {section}')


def _link(path: Path, entry: Any, cfg: Config, kind: str, earlier: Sequence[Stage]) -> Stage:
    """Determine the earlier stages that a config depends on, and its fingerprint."""
    name, checkpoint = entry.name, entry.get('checkpoint')
    refuse_out_dir(cfg, f'recipe {path}, stage {name!r}')
    known = {stage.name: stage for stage in earlier}
    used = [*_references(cfg.to_dict()), *_references(checkpoint)]
    needs = tuple(dict.fromkeys(value.removeprefix(_REFERENCE) for value in used))
    for need in needs:
        if need not in known:
            raise ConfigError(f'recipe {path}: stage {name!r} uses {_REFERENCE}{need}, which is not an earlier stage')
        if known[need].kind == SCORE:
            raise ConfigError(f'recipe {path}: stage {name!r} uses {_REFERENCE}{need}, which only scores')
    content = with_schedule_ends(cfg.to_dict())
    if kind != SCORE:  # how a stage is scored later does not change the stage
        content = {key: value for key, value in content.items() if not key.startswith('evaluation')}
    text = json.dumps(without_limits(content), sort_keys=True, default=str) + (checkpoint or '')
    text += ''.join(known[n].fingerprint for n in needs)
    return Stage(name, cfg, needs, hashlib.sha256(text.encode()).hexdigest(), kind, checkpoint, cfg.filename or '')


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _references(item)
    elif isinstance(value, str) and value.startswith(_REFERENCE):
        yield value


def resolve(value: Any, work_dir: Path) -> Any:
    """Replace references by checkpoint paths."""
    if isinstance(value, dict):
        return {key: resolve(item, work_dir) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(resolve(item, work_dir) for item in value)
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
    if 'checkpoint' not in done:
        raise GraftError(f'stage {name} in {work_dir} scores a checkpoint and has none of its own')
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
