"""Options that several commands share."""

import argparse
import re
from typing import Any

from mmselfsup_graft.errors import ConfigError


def add_launch_options(parser: argparse.ArgumentParser) -> None:
    """Options every launcher of the OpenMMLab family passes or expects."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command that trains a config; :func:`train_arguments` reads them."""
    add_data_root(parser)
    parser.add_argument('--work-dir', help='where to write; default: work_dirs/<config name>')
    parser.add_argument('--resume', nargs='?', const='auto', help='resume from a checkpoint (default: the newest)')
    parser.add_argument('--overwrite', action='store_true', help='delete an earlier run in the work directory')
    parser.add_argument('--epochs', type=int, help='length of the run; the learning-rate schedule follows')
    parser.add_argument('--amp', action='store_true', help='half precision if the machine supports it')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument(
        '--log',
        action='append',
        choices=['tensorboard', 'wandb', 'mlflow', 'clearml'],
        default=[],
        help='also log there; may be repeated',
    )
    add_cfg_options(parser)
    add_launch_options(parser)


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """``--data-root DIR`` of commands that read a config."""
    parser.add_argument('--data-root', metavar='DIR', help='folder of the images to train and score on')


def train_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``engine.train.training_config`` from a command line."""
    names = ('config', 'work_dir', 'resume', 'epochs', 'amp', 'auto_scale_lr', 'launcher', 'data_root', 'log')
    return {'options': args.cfg_options, **{name: getattr(args, name) for name in names}}


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """``--cfg-options key=value ...``; a value in quotation marks is text."""
    from mmengine.config import DictAction

    class Options(DictAction):
        """mmengine's action, which keeps blanks in paths."""

        @staticmethod
        def _parse_iterable(val: str) -> Any:
            if len(val) > 1 and val[0] == val[-1] and val[0] in '\'"':
                return val[1:-1]
            if ',' in val or val.startswith(('[', '(')):
                return DictAction._parse_iterable(val)
            return DictAction._parse_int_float_bool(val)

        def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
            for value in values:
                if '=' not in value:
                    parser.error(f'--cfg-options takes KEY=VALUE, got {value!r}')
                if 'dict(' in value or value.partition('=')[2].startswith('{'):
                    parser.error(f'--cfg-options takes no dict, got {value!r}; write a config that inherits this one')
            super().__call__(parser, namespace, values, option_string)

    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        default={},
        metavar='KEY=VALUE',
        help='override config values, e.g. optim_wrapper.optimizer.lr=1e-3; unknown keys are an error',
    )


def parse_grid(text: str | None) -> tuple[int, int] | None:
    """``9x16`` as (9, 16) patches.

    Raises:
        ConfigError: If it is something else.
    """
    return _pair(text, r'([1-9]\d*)x([1-9]\d*)', '--source-grid takes HxW in patches')


def parse_size(text: str | None) -> tuple[int, int] | None:
    """``224`` or ``224x224`` as (224, 224) pixels.

    Raises:
        ConfigError: If it is something else.
    """
    return _pair(text, r'([1-9]\d*)(?:x([1-9]\d*))?', '--img-size takes H or HxW in pixels')


def _pair(text: str | None, pattern: str, expected: str) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(pattern, text)
    if match is None:
        raise ConfigError(f'{expected}, got {text!r}')
    return int(match[1]), int(match[2] or match[1])


def add_encoder_options(parser: argparse.ArgumentParser, model_required: bool = True) -> None:
    """Options of every command that takes an encoder; :func:`encoder_from` reads them."""
    add = parser.add_argument
    add(
        '--model',
        required=model_required,
        metavar='CHECKPOINT|NAME',
        help='checkpoint of any known format, zoo:NAME, or the name of a model with weights',
    )
    add('--config', help='config of the model; default: architecture, size and normalization are read from the file')
    add('--format', help='format or method of the checkpoint; default: recognized by its tensors')
    add('--branch', help='which encoder of the file, e.g. momentum or teacher')
    add('--source-grid', metavar='HxW', help="patches per column and per row of the file's tables")
    add('--img-size', metavar='N|HxW', help='size of the images in pixels, instead of that of file or config')
    add(
        '--mean',
        type=float,
        nargs='+',
        metavar='M',
        help='mean per channel in 0..255, instead of that of file or config',
    )
    add('--std', type=float, nargs='+', metavar='S', help='standard deviation per channel, likewise')
    add('--batch-size', type=int, default=256, help='images per forward pass (default: 256)')
    add('--num-workers', type=int, default=0, help='loader processes (default: 0)')
    add_cfg_options(parser)


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Options that describe the encoder of a checkpoint for an export; :func:`export_options` reads them."""
    add = parser.add_argument
    add('--feature', choices=['class_token', 'patch_mean'], help='its output; default: as stored in the file')
    add('--format', help='format or method of the checkpoint; default: recognized by its tensors')
    add('--branch', help='which encoder of the file, e.g. momentum or teacher')
    add('--source-grid', metavar='HxW', help="patches per column and per row of the file's tables")
    add('--img-size', metavar='N|HxW', help='size of the images in pixels, instead of that of the file')
    add('--mean', type=float, nargs='+', metavar='M', help='mean per channel in 0..255, instead of that of the file')
    add('--std', type=float, nargs='+', metavar='S', help='standard deviation per channel, likewise')


def export_options(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``export.source_model.source_model`` from a command line.

    Raises:
        ConfigError: If an option is wrong.
    """
    return {
        'source': _source(args),
        'feature': args.feature,
        'size': parse_size(args.img_size),
        'normalization': _normalization(args),
    }


def _source(args: argparse.Namespace) -> dict[str, Any]:
    source = {'format': args.format, 'branch': args.branch, 'grid': parse_grid(args.source_grid)}
    return {key: value for key, value in source.items() if value is not None}


def _normalization(args: argparse.Namespace) -> dict[str, Any] | None:
    if (args.mean is None) != (args.std is None):
        raise ConfigError('--mean and --std must be given together')
    if args.std and min(args.std) <= 0:
        raise ConfigError(f'--std must be positive, got {args.std}')
    return None if args.mean is None else {'mean': args.mean, 'std': args.std}


def add_feature_options(parser: argparse.ArgumentParser) -> None:
    """Options that choose a feature of an encoder."""
    parser.add_argument('--feature', choices=['class_token', 'patch_mean', 'both'], help="default: the encoder's own")
    parser.add_argument('--block', type=int, help='the feature after N blocks; default: the final feature')


def encoder_from(args: argparse.Namespace) -> Any:
    """The encoder of a command line with :func:`add_encoder_options`.

    Raises:
        ConfigError: If an option is wrong.
        CheckpointError: If there is no such file, or it does not fit.
    """
    from mmselfsup_graft.zoo.model_source import encoder_of

    normalization = _normalization(args)
    if args.batch_size < 1 or args.num_workers < 0:
        raise ConfigError('--batch-size must be at least 1 and --num-workers at least 0')
    return encoder_of(
        args.model,
        args.config,
        options=args.cfg_options,
        source=_source(args),
        block=getattr(args, 'block', None),
        size=parse_size(args.img_size),
        normalization=normalization,
    )
