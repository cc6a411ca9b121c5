"""The console command ``graft`` with all commands.

``graft NAME ...`` is the same as a script of ``tools/``. The module of a command is imported when it is called, so
``graft --help`` answers at once.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.utils.suggestions import did_you_mean
from mmselfsup_graft.version import __version__

from .running import run_tool


class Command(NamedTuple):
    """A command of the command line.

    Attributes:
        module: Below ``mmselfsup_graft.cli``, with ``make_parser`` and ``main``.
        help: One line.
    """

    module: str
    help: str


COMMANDS = {
    'train': Command('train', 'train one config'),
    'test': Command('test', 'score a checkpoint: k-NN, few-shot, logistic regression, linear'),
    'finetune': Command('finetune', 'fine-tune a checkpoint and test it'),
    'embed': Command('embed', 'write the features of a folder of images as a table'),
    'predict': Command('predict', 'classify images by a fine-tuned classifier'),
    'recipe': Command('run_recipe', 'run several stages as one job, with a report'),
    'convert': Command('model_converters.convert', 'convert a backbone to another library'),
    'selfsup2mmdet': Command(
        'model_converters.selfsup2mmdet', "convert a backbone to MMDetection, by its method's name"
    ),
    'publish': Command('model_converters.publish_model', 'strip a checkpoint and put its hash into its name'),
    'export': Command(
        'model_converters.export', 'write an encoder as ONNX or as a program of torch.export, and compare outputs'
    ),
    'push': Command('model_converters.push', 'share an encoder on the Hugging Face hub, with a model card'),
    'download': Command('download_weights', 'list or download published weights'),
    'map': Command('visualization.map_features', 'map of images by their features, one HTML page'),
    'neighbors': Command('visualization.nearest_neighbors', 'nearest neighbors, near-duplicates and outliers'),
    'attention': Command('visualization.attention_maps', 'attention and patch features of an encoder over images'),
    'browse': Command('visualization.browse_dataset', 'what a config feeds its model: views and masks'),
    'conflict': Command('analysis_tools.gradient_conflict', 'gradient conflict over depth, and where to graft'),
    'logs': Command('analysis_tools.analyze_logs', 'progress, speed, time left and curves of runs'),
    'flops': Command('analysis_tools.get_flops', 'operations and parameters of a training config'),
    'interaction': Command('analysis_tools.interaction_strength', 'multi-order interaction strength'),
    'spectrum': Command('analysis_tools.feature_spectrum', 'spectrum of features over depth'),
    'reconstruct': Command('analysis_tools.reconstruct', 'draw reconstructions of masked images'),
    'compare-seeds': Command('analysis_tools.compare_seeds', 'mean and spread over seeds, and claims'),
    'check-data': Command('dataset_tools.check_data', 'read all images of folders: unreadable files, sizes, copies'),
    'make-shards': Command('dataset_tools.make_shards', 'write a folder of images as tar archives'),
    'make-split': Command('dataset_tools.make_split', 'write the list of a class-balanced part'),
    'store-resized': Command('dataset_tools.store_resized', 'write a resized copy of a folder of images'),
    'config': Command('misc.print_config', 'the resolved config, with the file that each value comes from'),
    'check-env': Command('check_env', 'what is installed, and the command for what is missing'),
    'completion': Command('completion', 'print the completion script of a shell'),
}


def main(argv: Sequence[str] | None = None) -> int | None:
    """Run the command of the first argument.

    Raises:
        ConfigError: If the command does not exist.
    """
    name, *rest = (list(sys.argv[1:]) if argv is None else list(argv)) or ['--help']
    if name in ('-h', '--help'):
        print(overview())
        return 0
    if name == '--version':
        print(__version__)
        return 0
    if name not in COMMANDS:
        raise ConfigError(f'graft has no command {name!r}{did_you_mean(name, COMMANDS)}; see graft --help')
    sys.argv = [f'graft {name}', *rest]  # the program name of argparse
    return importlib.import_module(f'mmselfsup_graft.cli.{COMMANDS[name].module}').main(rest)


def overview() -> str:
    """All commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f'  {name:{width}}  {command.help}' for name, command in COMMANDS.items()]
    return '\n'.join(['usage: graft COMMAND ...', '', *lines, '', 'Options of a command: graft COMMAND --help'])


def full_parser() -> argparse.ArgumentParser:
    """One parser with all commands, for completion scripts."""
    parser = argparse.ArgumentParser(prog='graft')
    commands = parser.add_subparsers()
    for name, command in COMMANDS.items():
        own = importlib.import_module(f'mmselfsup_graft.cli.{command.module}').make_parser()
        commands.add_parser(name, parents=[own], add_help=False, help=command.help)
    return parser


def console() -> None:
    """Entry point of the console command."""
    run_tool(main)


if __name__ == '__main__':
    console()
