"""Store a resized copy of a data set: ``python tools/dataset_tools/store_resized.py SOURCE DESTINATION``.

JPEG files in the tree of the source, which the same data sets read, or decoded images in shards for ``RawShards``. The
same command resumes after it was stopped.
"""

import argparse
from collections.abc import Sequence


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Store a resized copy of a data set')
    parser.add_argument('source', help='folder of images at any depth, e.g. data/imagenet')
    parser.add_argument('destination', help='folder to write')
    parser.add_argument('--short-side', type=int, default=256, help='pixels of the shorter side; never enlarged')
    parser.add_argument('--format', choices=['jpeg', 'raw'], default='jpeg', help='files, or decoded images in shards')
    parser.add_argument('--quality', type=int, default=95, help='of JPEG')
    parser.add_argument('--subsampling', choices=['4:2:0', '4:4:4'], default='4:2:0', help="of JPEG's colors")
    parser.add_argument('--per-shard', type=int, default=1024, help='images of a raw shard')
    parser.add_argument('--jobs', type=int, default=1, help='processes')
    parser.add_argument('--on-corrupt', choices=['skip', 'raise'], default='skip', help='for unreadable images')
    parser.add_argument('--max-left-out', type=float, help='share of the files that may be left out; default: 0.05')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Store the copy and print a summary."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.datasets.shards.stored_copy import store_resized

    options = {name: getattr(args, name) for name in ('short_side', 'quality', 'subsampling', 'per_shard', 'jobs')}
    if args.max_left_out is not None:
        options['max_left_out'] = args.max_left_out
    manifest = store_resized(args.source, args.destination, form=args.format, on_corrupt=args.on_corrupt, **options)
    counts = manifest['counts']
    for path, reason in list(manifest['skipped'].items())[:20]:
        print(f'skipped {path}: {reason}')
    print(
        f'{args.destination}: {counts["stored"]} of {counts["found"]} images, {counts["bytes"] / 2**20:.1f} MiB'
        + (f', {counts["skipped"]} unreadable (listed in manifest.json)' if counts['skipped'] else '')
    )
