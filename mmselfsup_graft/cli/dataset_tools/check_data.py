"""Check folders of images before a training: ``graft check-data DIR [DIR ...]``.

Reads every image as a training does, and reports unreadable and skipped files, classes, sizes, modes and copies, also
between folders (train and val). Exits with 1 if more files are unusable than a training accepts.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.errors import ConfigError


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Read all images of folders and report what is wrong with them')
    parser.add_argument('folders', nargs='+', metavar='DIR', help='folders of images, for example train and val')
    parser.add_argument('--no-labels', action='store_true', help='do not read sub-folders as classes')
    parser.add_argument('--workers', type=int, default=0, help='processes that read (default: 0, in this one)')
    parser.add_argument(
        '--max-left-out', type=float, default=0.05, metavar='SHARE', help='usual: 0.05, as in a training'
    )
    parser.add_argument('--out', type=Path, help='JSON file for all images, one entry each')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing file')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Read and report; 1 if too many files are unusable."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.datasets.inspection import as_rows, copies_of, copies_text, facts_text, inspect_folder
    from mmselfsup_graft.datasets.skipped_files import check_share
    from mmselfsup_graft.engine.launching.existing import refuse_existing
    from mmselfsup_graft.libraries.scopes import register_all_modules
    from mmselfsup_graft.utils.files import write_json

    register_all_modules()
    most = check_share(args.max_left_out, '--max-left-out')
    if args.workers < 0:
        raise ConfigError(f'--workers must be at least 0, got {args.workers}')
    refuse_existing([args.out] if args.out else [], args.overwrite, '--out')
    found, failed = [], False
    for folder in args.folders:
        facts = inspect_folder(folder, not args.no_labels, args.workers)
        found.append(facts)
        print(facts_text(facts))
        total = len(facts.images) + facts.unexpected
        unusable = len(facts.unreadable) + facts.unexpected
        if unusable > most * total:
            failed = True
            print(f'  {unusable:,} of {total:,} files are unusable, more than {100 * most:g} %')
    text = copies_text(copies_of(found))
    if text:
        print(text)
    if args.out:
        write_json(args.out, [row for facts in found for row in as_rows(facts)])
        print(f'all images: {args.out}')
    return 1 if failed else 0
