"""Spectrum of features over depth: ``feature_spectrum.py CONFIG NAME=CHECKPOINT [NAME=CHECKPOINT ...]``.

Measures the relative log amplitude of the features' spectrum and their variance over the depth of encoders. CONFIG is
a config for ``tools/test.py`` or a fine-tuning config; checkpoints may have any known format. An encoder with
another config is written ``NAME=OTHER_CONFIG.py:CHECKPOINT``, fresh weights ``NAME=random``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.cli.options import add_cfg_options


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Spectrum and variance of features over depth')
    add = parser.add_argument
    add('config', help='config with model.backbone and the images to measure')
    add('checkpoints', nargs='+', metavar='NAME=CHECKPOINT', help='or NAME=OTHER_CONFIG.py:CHECKPOINT, NAME=random')
    add('--batches', type=int, default=26, help='largest number of batches of test images (default: 26)')
    add('--batch-size', type=int, default=256, help='images per batch (default: 256)')
    add('--seed', type=int, default=0, help='of the draw of images and of fresh weights')
    add('--device', help='e.g. cpu, cuda:1; default: a GPU if there is one')
    add('--out-dir', type=Path, help='where to write; default: work_dirs/<config name>/feature_spectrum')
    add_cfg_options(parser)
    parser.add_argument('--overwrite', action='store_true', help='replace existing results')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, draw the figure and print the results."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.analysis.spectrum.report import encoder_of, report_spectrum, spectrum_of_checkpoint
    from mmselfsup_graft.engine.launching.existing import refuse_existing
    from mmselfsup_graft.engine.launching.work_dir import default_work_dir
    from mmselfsup_graft.errors import ConfigError
    from mmselfsup_graft.evaluation.compared_checkpoints import measuring_device, read_compared

    for name in ('batches', 'batch_size'):
        if getattr(args, name) < 1:
            raise ConfigError(f'--{name.replace("_", "-")} must be at least 1, got {getattr(args, name)}')
    models, device = read_compared(args.config, args.checkpoints, args.cfg_options), measuring_device(args.device)
    for each in models:
        encoder_of(each, args.seed)  # raises errors before the first measurement
    out_dir = args.out_dir or default_work_dir(args.config) / 'feature_spectrum'
    refuse_existing([out_dir / 'feature_spectrum.csv'], args.overwrite, '--out-dir')
    found, text = {}, ''
    for each in models:
        found[each.name] = spectrum_of_checkpoint(each, device, args.batches, args.batch_size, args.seed)
        text = report_spectrum(found, out_dir)  # after each of them: an interrupted run keeps its results
    print(text)
    print(f'CSV, pictures and this text: {out_dir}')
