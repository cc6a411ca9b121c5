"""Options that several commands share."""

import argparse
from typing import Any


def add_launch_options(parser: argparse.ArgumentParser) -> None:
    """Options every launcher of the OpenMMLab family passes or expects."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command that trains a config; :func:`train_arguments` reads them."""
    parser.add_argument('--work-dir', help='where to write; default: work_dirs/<config name>')
    parser.add_argument('--resume', nargs='?', const='auto', help='resume from a checkpoint (default: the newest)')
    parser.add_argument('--overwrite', action='store_true', help='delete an earlier run in the work directory')
    parser.add_argument('--epochs', type=int, help='length of the run; the learning-rate schedule follows')
    parser.add_argument('--amp', action='store_true', help='half precision if the machine supports it')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    add_cfg_options(parser)
    add_launch_options(parser)


def train_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``engine.train.training_config`` from a command line."""
    names = ('config', 'work_dir', 'resume', 'epochs', 'amp', 'auto_scale_lr', 'launcher')
    return {'options': args.cfg_options, **{name: getattr(args, name) for name in names}}


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number of at least 1, got {text!r}')
    return int(text)


def add_convert_options(parser: argparse.ArgumentParser) -> None:
    """Options of the converters; ``export.convert_file.convert_command`` reads them."""
    add = parser.add_argument
    add('--branch', help='which encoder of the file, e.g. base, momentum, teacher, student; default: the usual one')
    add('--prefix', choices=['none', 'backbone'], default='none', help='prefix of every name')
    add('--keep-head', action='store_true', help='keep the projection head inside the encoder')
    norm = parser.add_mutually_exclusive_group()
    norm.add_argument('--keep-norm', action='store_true', help="keep a ViT's final norm, whatever the target")
    norm.add_argument('--drop-norm', action='store_true', help="drop a ViT's final norm, whatever the target")
    add(
        '--expand-shared-rel-pos',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='give every block its own copy of a relative position table that all blocks share',
    )
    add('--img-size', metavar='H[xW]', help='resize position tables for images of this many pixels')
    add('--dry-run', action='store_true', help='print the report, write nothing')
    add('--report', metavar='FILE.json', help='write the full lists of names')
    add('--overwrite', action='store_true', help='replace an existing file')
    add('--hash-name', action='store_true', help='append 8 digits of the SHA-256 to the name')
    add('--allow-converted', action='store_true', help='take a file whose backbone was extracted before')
    add('--source-grid', metavar='HxW', help="patches per column and per row of the file's position tables")
    add('--num-heads', type=_positive, metavar='N', help='attention heads of a ViT; default: as stored in the file')
    add('--unverified', action='store_true', help='write the result even if no model can check it')
    add('--no-verify', action='store_true', help="do not load the result into the target's model")
    add('--unsafe-pickle', action='store_true', help='let the file run code while it is read; only if you trust it')


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
