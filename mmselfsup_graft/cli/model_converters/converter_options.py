"""The options of the two converters, and what they do."""

import argparse

from mmselfsup_graft.cli.options import parse_grid, parse_size


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number of at least 1, got {text!r}')
    return int(text)


def add_convert_options(parser: argparse.ArgumentParser) -> None:
    """Options of the converters; see :func:`convert_and_print`."""
    add = parser.add_argument
    add('--branch', help='which encoder of the file, e.g. base, momentum, teacher, student; default: the usual one')
    add('--prefix', choices=['none', 'backbone'], default='none', help='prefix of every name')
    add('--keep-head', action='store_true', help='keep the projection head inside the encoder')
    add('--classifier', action='store_true', help='keep the classifier of a fine-tuned model (timm and hf)')
    add('--feature', choices=['class_token', 'patch_mean'], help='what it takes; default: as stored in the file')
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


def convert_and_print(args: argparse.Namespace, target: str) -> None:
    """Convert as requested and print a summary."""
    from mmselfsup_graft.export.convert_file import ConvertOptions, convert_file

    options = ConvertOptions(
        target=target,
        method=args.method,
        branch=args.branch,
        prefix=args.prefix,
        keep_head=args.keep_head,
        final_norm=True if args.keep_norm else False if args.drop_norm else None,
        img_size=parse_size(args.img_size),
        overwrite=args.overwrite,
        hash_name=args.hash_name,
        unsafe_pickle=args.unsafe_pickle,
        allow_converted=args.allow_converted,
        verify=not args.no_verify,
        unverified=args.unverified,
        source_grid=parse_grid(args.source_grid),
        num_heads=args.num_heads,
        expand_shared_rel_pos=args.expand_shared_rel_pos,
        classifier=args.classifier,
        feature=args.feature,
    )
    done = convert_file(args.source, args.destination, options, args.dry_run, args.report)
    print(done.text)
    print('nothing written (dry run)' if done.path is None else f'written: {done.path}')
