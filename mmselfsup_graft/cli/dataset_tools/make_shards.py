"""Write tar archives of a data set for ``TarShards``: ``python tools/dataset_tools/make_shards.py SOURCE DESTINATION``.

The layout is webdataset's: ``key.jpg`` and ``key.cls``. ``--index-only`` makes the index of archives that exist:
``python tools/dataset_tools/make_shards.py --index-only 's3://bucket/name-{000000..000127}.tar' --out index.json``. The
same command resumes after it was stopped.
"""

import argparse
import ast
from collections.abc import Sequence
from typing import Any


def option(text: str) -> tuple[str, Any]:
    """Read ``KEY=VALUE``; the value is a Python literal (``True``, ``8``, ``{'region_name': 'x'}``) or else a text."""
    key, equal, value = text.partition('=')
    if not key or not equal:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form KEY=VALUE')
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Write tar archives of a data set, or index existing ones')
    parser.add_argument('source', help='folder of images; with --index-only a folder or pattern of archives')
    parser.add_argument('destination', nargs='?', help='local folder to write')
    parser.add_argument('--index-only', action='store_true', help='write the index of existing archives')
    parser.add_argument('--out', help='index to write with --index-only; default: index.json next to the archives')
    parser.add_argument('--force', action='store_true', help='with --index-only: replace an index')
    parser.add_argument(
        '--storage-option',
        action='append',
        default=[],
        type=option,
        metavar='KEY=VALUE',
        help="with --index-only: of fsspec's file system, e.g. anon=True; may be repeated",
    )
    parser.add_argument('--split', default='', help='sub-folder of the source to read, e.g. train')
    parser.add_argument('--name', default='images', help="beginning of the archives' names")
    parser.add_argument('--per-shard', type=int, default=4000, help='images of an archive')
    order = parser.add_mutually_exclusive_group()
    order.add_argument('--seed', type=int, default=0, help='of the random order in which images are written')
    order.add_argument('--sorted', action='store_true', help='keep the order of the paths instead')
    parser.add_argument('--no-labels', action='store_true', help='sub-folders are not classes')
    parser.add_argument('--classes', metavar='FILE', help='with --index-only: names of the classes, one per line')
    parser.add_argument('--max-left-out', type=float, help='share of the files that may be left out; default: 0.05')
    parser.add_argument('--jobs', type=int, default=1, help='processes')
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.index_only and args.destination:
        parser.error('--index-only writes one file: give --out FILE instead of a destination')
    if not args.index_only and (not args.destination or args.out):
        parser.error('give SOURCE and DESTINATION; --out belongs to --index-only')
    if args.classes and not args.index_only:
        parser.error('--classes belongs to --index-only: otherwise the sub-folders name the classes')
    if args.storage_option and not args.index_only:
        parser.error('--storage-option belongs to --index-only: archives are written to a local folder')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Write the shards and print a summary."""
    args = parse(argv)
    from mmselfsup_graft.datasets.classes import read_classes
    from mmselfsup_graft.datasets.shards.make_shards import index_shards, make_shards

    options = {} if args.max_left_out is None else {'max_left_out': args.max_left_out}
    if args.index_only:
        shards = index_shards(
            args.source,
            args.out,
            storage_options=dict(args.storage_option),
            jobs=args.jobs,
            overwrite=args.force,
            classes=None if args.classes is None else read_classes(args.classes),
            **options,
        )
        images = sum(len(shard.keys) for shard in shards)
        labeled = sum(label >= 0 for shard in shards for label in shard.labels)
        print(f'{args.out or args.source}: {images} images, {labeled} labeled, in {len(shards)} archives')
        return
    manifest = make_shards(
        args.source,
        args.destination,
        split=args.split,
        name=args.name,
        per_shard=args.per_shard,
        seed=None if args.sorted else args.seed,
        with_label=False if args.no_labels else 'auto',
        jobs=args.jobs,
        **options,
    )
    counts = manifest['counts']
    print(
        f'{args.destination}: {counts["stored"]} images in {len(manifest["shards"])} archives, '
        f'{counts["bytes"] / 2**20:.1f} MiB, and {args.destination}/index.json'
    )
