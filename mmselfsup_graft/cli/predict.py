"""Classify images by a fine-tuned classifier: ``python tools/predict.py CHECKPOINT IMAGE_OR_FOLDER ...``."""

import argparse
import sys
from collections.abc import Sequence


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Classify images by a fine-tuned classifier')
    parser.add_argument('checkpoint', help='of tools/finetune.py, e.g. best_accuracy_top1_epoch_20.pth')
    parser.add_argument('images', nargs='+', help='image files, and folders of images')
    parser.add_argument('--config', help='config of the fine-tuning; default: the one beside the checkpoint')
    parser.add_argument('--top', type=int, default=3, help='classes per image (default: 3)')
    parser.add_argument('--out', help='JSON file for the predictions')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing file')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Classify and print a line per image."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.engine.launching.existing import refuse_existing
    from mmselfsup_graft.evaluation.finetuning.predicting import predict
    from mmselfsup_graft.utils.files import write_json

    if args.out:
        refuse_existing([args.out], args.overwrite, '--out')
    found = predict(args.checkpoint, args.images, args.config, args.top)
    for each in found:
        if not each.problem:
            print(f'{each.image}: ' + ', '.join(f'{name} {100 * value:.1f} %' for name, value in each.classes))
    for each in found:
        if each.problem:
            print(f'not read: {each.image} ({each.problem})', file=sys.stderr)
    if args.out:
        write_json(args.out, [each._asdict() for each in found])
