"""The features that a command shows: a table of ``graft embed``, or a folder of images with a model."""

import argparse
from pathlib import Path
from typing import Any

from mmselfsup_graft.cli.options import add_encoder_options, add_feature_options, encoder_from
from mmselfsup_graft.errors import ConfigError


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """The source and the options for embedding a folder."""
    parser.add_argument(
        'source', metavar='TABLE|FOLDER', help='table of graft embed, or a folder of images (with --model)'
    )
    add_feature_options(parser)
    parser.add_argument('--no-labels', action='store_true', help='do not read sub-folders as classes')
    parser.add_argument('--max-left-out', type=float, metavar='SHARE', help='share of the files that may be no images')
    add_encoder_options(parser, model_required=False)


def read_source(args: argparse.Namespace, most: int | None = None) -> tuple[Any, dict[str, str]]:
    """The table of features, and facts about it for a page.

    Args:
        args: A command line with :func:`add_source_options`.
        most: Of a folder: embed only so many images, evenly spread over the classes.

    Raises:
        ConfigError: If a folder is given without a model, or a table with one.
    """
    from mmselfsup_graft.analysis.embedding.chosen import spread
    from mmselfsup_graft.evaluation.embedding.folder_features import Extraction, embed_data, folder_data
    from mmselfsup_graft.evaluation.embedding.image_table import ImageTable, read_table
    from mmselfsup_graft.registry import DATASETS

    source = Path(args.source)
    if not source.is_dir():
        if args.model is not None:
            raise ConfigError(f'{source} is not a folder; --model embeds a folder of images')
        table = read_table(source)
        return (ImageTable(table.paths, None, table.vectors) if args.no_labels else table), {'Features': str(source)}
    if args.model is None:
        raise ConfigError(f'{source} is a folder of images: give --model CHECKPOINT, or a table of graft embed')
    encoder = encoder_from(args)
    data = folder_data(encoder, str(source), not args.no_labels, args.max_left_out)
    if most is not None:
        dataset = DATASETS.build(dict(data))
        if len(dataset) > most:
            data['indices'] = spread(dataset.labels(), len(dataset), most).tolist()
    table, _ = embed_data(encoder, data, Extraction(args.feature, args.batch_size, args.num_workers))
    feature = args.feature or encoder.own_feature()
    return table, {'Folder': str(source), 'Encoder': Path(args.model).name, 'Feature': feature.replace('_', ' ')}
