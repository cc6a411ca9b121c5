"""``--log``: where a run is shown besides its own files."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmselfsup_graft.errors import ConfigError

#: name on the command line -> mmengine's backend; the packages have the same names
BACKENDS = {
    'tensorboard': 'TensorboardVisBackend',
    'wandb': 'WandbVisBackend',
    'mlflow': 'MLflowVisBackend',
    'clearml': 'ClearMLVisBackend',
}
_PROJECT = 'mmselfsup_graft'


def log_to(cfg: Config, names: Sequence[str]) -> None:
    """Log losses, learning rates and scores of a run to these services, in place.

    Runs are in the project ``mmselfsup_graft`` there, under the name of the work directory. A visualizer in the config
    keeps its own backends. MLflow writes to ``MLFLOW_TRACKING_URI``, without it to ``mlflow.db`` in the work directory.

    Args:
        cfg: With ``work_dir``.
        names: Of :data:`BACKENDS`.

    Raises:
        ConfigError: If a name is unknown or its package is not installed.
    """
    for name in names:
        if name not in BACKENDS:
            raise ConfigError(f'--log {name}: unknown; choose from {", ".join(BACKENDS)}')
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f'--log {name} needs the package {name}, which is not installed: pip install {name}')
    visualizer = cfg.get('visualizer') or {'type': 'mmengine.Visualizer'}
    backends = list(visualizer.get('vis_backends') or [{'type': 'mmengine.LocalVisBackend'}])
    present = {str(backend['type']).rpartition('.')[2] for backend in backends}
    backends += [_backend(name, Path(cfg.work_dir)) for name in names if BACKENDS[name] not in present]
    cfg.visualizer = {**visualizer, 'vis_backends': backends}


def _backend(name: str, work_dir: Path) -> dict[str, Any]:
    run = work_dir.name
    # mmengine's default, a store of files, is refused by MLflow 3
    store = os.environ.get('MLFLOW_TRACKING_URI') or f'sqlite:///{(work_dir / "mlflow.db").resolve()}'
    options: dict[str, dict[str, Any]] = {
        'tensorboard': {},
        'wandb': {'init_kwargs': {'project': _PROJECT, 'name': run}},
        'mlflow': {'exp_name': _PROJECT, 'run_name': run, 'tracking_uri': store, 'artifact_suffix': ()},
        'clearml': {'init_kwargs': {'project_name': _PROJECT, 'task_name': run}},
    }
    return {'type': f'mmengine.{BACKENDS[name]}', **options[name]}
