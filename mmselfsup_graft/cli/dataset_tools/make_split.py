"""Choose a class-balanced part of labeled images and write its list: ``python tools/dataset_tools/make_split.py ...``.

The list has one ``relative/path label`` per line, as the data set ``ImageList`` and the official code of Layer Grafted
Pre-training read it. The same seed gives the same list, and lists of one seed are nested. OUT.json keeps where it came
from and the names of the classes, which ImageList reads.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Choose a class-balanced part of labeled images and write its list')
    parser.add_argument('--data-root', default='', help='folder that paths are relative to; one sub-folder per class')
    parser.add_argument('--split', default='', help='sub-folder of the data root to read, e.g. train')
    parser.add_argument(
        '--list',
        help='choose from this list instead of the folder; bare names (n01440764_1.JPEG) take '
        'the class folders below DATA_ROOT/train for their labels',
    )
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument('--per-class', type=int, help='images per class')
    size.add_argument('--share', type=float, help='share of each class, at least one image; 1 %% is 0.01')
    parser.add_argument('--seed', type=int, default=0, help='another seed, another choice')
    parser.add_argument('--out', required=True, help='list to write')
    parser.add_argument('--max-left-out', type=float, help='share of the files that may be left out; default: 0.05')
    parser.add_argument('--force', action='store_true', help='overwrite OUT')
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if not args.list and not args.data_root:
        parser.error('give --data-root DIR or --list FILE')
    if args.list and args.split:
        parser.error('--split belongs to --data-root; a list already names its images')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Choose and write."""
    args = parse(argv)
    from mmselfsup_graft.datasets.splits import balanced_indices, folder_entries, list_entries, write_image_list
    from mmselfsup_graft.utils.files import write_json

    options = {} if args.max_left_out is None else {'max_left_out': args.max_left_out}
    if args.list:
        entries, classes = list_entries(args.list, args.data_root)
    else:
        entries, classes = folder_entries(args.data_root, args.split, **options)
    labels = [entry.label for entry in entries]
    chosen = balanced_indices(labels, args.per_class, args.share, args.seed)
    write_image_list([entries[number] for number in chosen], args.out, args.force)
    origin = {name: getattr(args, name) for name in ('data_root', 'split', 'list', 'per_class', 'share', 'seed')}
    write_json(Path(f'{args.out}.json'), {**origin, 'images': len(chosen), 'of': len(entries), 'classes': classes})
    print(f'{args.out}: {len(chosen)} of {len(entries)} images, {len(set(labels))} classes, seed {args.seed}')
