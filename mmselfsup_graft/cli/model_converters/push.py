"""Share an encoder on the Hugging Face hub: ``graft push CHECKPOINT user/name --results results.jsonl``."""

import argparse
from collections.abc import Sequence

from mmselfsup_graft.cli.options import add_export_options, export_options


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Share an encoder on the Hugging Face hub, with a model card')
    parser.add_argument('checkpoint', help='checkpoint of any known format, or zoo:NAME')
    parser.add_argument('name', metavar='user/name', help='repository; created if it does not exist')
    parser.add_argument('--results', metavar='results.jsonl', help='its rows of this checkpoint go into the card')
    parser.add_argument('--license', help='of the weights, e.g. apache-2.0; without it the card states none')
    parser.add_argument('--private', action='store_true', help='make a new repository private')
    parser.add_argument('--revision', help='branch to upload to (default: main)')
    parser.add_argument(
        '--library',
        choices=['timm', 'transformers', 'mmselfsup_graft'],
        help='layout; default: the first of these that has such a model',
    )
    parser.add_argument('--classifier', action='store_true', help='share the classifier of a fine-tuned model, too')
    parser.add_argument('--folder', metavar='DIR', help='write the files to this folder, upload nothing')
    add_export_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write, check and upload the repository."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.export.sharing.hub_folder import write_hub_folder
    from mmselfsup_graft.export.sharing.pushing import push_folder

    options = {'library': args.library, 'classifier': args.classifier, 'results': args.results, **export_options(args)}
    if args.folder:
        folder = write_hub_folder(args.checkpoint, args.folder, args.name, license_name=args.license, **options)
        print(folder.text(args.folder))
        return
    folder, address = push_folder(
        args.checkpoint, args.name, license=args.license, private=args.private, revision=args.revision, **options
    )
    print(folder.text(args.name))
    print(f'uploaded: {address}')
