"""Features of a folder of images: ``graft embed FOLDER --model CHECKPOINT --out features.parquet``.

Writes a table of path, label (the class folder, if there are any) and vector. Finished parts are kept beside the table
until it is complete: the same command continues an interrupted one.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.cli.options import add_encoder_options, add_feature_options, encoder_from


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Features of a folder of images')
    parser.add_argument(
        'folder', help='folder of images, at any depth; sub-folders are classes where they look like it'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('features.npy'), help='.parquet, .npy or .csv (default: features.npy)'
    )
    add_feature_options(parser)
    parser.add_argument('--no-labels', action='store_true', help='do not read sub-folders as classes')
    parser.add_argument('--max-left-out', type=float, metavar='SHARE', help='share of the files that may be no images')
    add_encoder_options(parser)
    parser.add_argument('--overwrite', action='store_true', help='replace an existing table')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Extract the features and write the table."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.engine.launching.existing import refuse_existing
    from mmselfsup_graft.evaluation.embedding.folder_features import Extraction
    from mmselfsup_graft.evaluation.embedding.image_table import check_suffix
    from mmselfsup_graft.evaluation.embedding.write_features import write_folder_features

    check_suffix(args.out)
    refuse_existing([args.out], args.overwrite, '--out')
    encoder = encoder_from(args)
    how = Extraction(args.feature, args.batch_size, args.num_workers)
    print(write_folder_features(encoder, args.folder, args.out, how, not args.no_labels, args.max_left_out)[1])
