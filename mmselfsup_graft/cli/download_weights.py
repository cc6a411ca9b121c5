"""List the zoo, or download published files: ``download_weights.py [NAME ...] [--list]``."""

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmselfsup_graft.downloads.published import PublishedFile


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='List the zoo, or download published files')
    parser.add_argument('names', nargs='*', metavar='NAME', help='files, or models whose first file to download')
    parser.add_argument('--list', action='store_true', help='list the files and models, or those that match NAME')
    parser.add_argument('--folder', help='folder for files; default: $GRAFT_WEIGHTS, else next to torch hub')
    parser.add_argument('--mirror', help='folder or address with files of the same names; default: $GRAFT_MIRROR')
    parser.add_argument('--offline', action='store_true', help='never open a connection; also GRAFT_OFFLINE=1')
    parser.add_argument('--file', metavar='PATH', help='take NAME from this local file')
    parser.add_argument(
        '--accept-unknown-hash',
        action='store_true',
        help='take a file whose hash nobody states, print its SHA-256 and keep it; later downloads must agree',
    )
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if not args.names and not args.list:
        parser.error('give the name of a file or model, or --list')
    if args.file and (args.list or len(args.names) != 1):
        parser.error('--file needs one NAME')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """List or download."""
    args = parse(argv)
    if args.list:
        for pattern in args.names or ['*']:
            print('\n'.join(_listed(pattern)))
        return
    from mmselfsup_graft.downloads.resolve import PREFIX, get_published

    for name in args.names:
        given = (args.folder, args.mirror, args.offline or None, args.accept_unknown_hash, args.file)
        print(get_published(name.removeprefix(PREFIX), *given))


def _listed(pattern: str) -> Iterator[str]:
    """Lines about the files and models that match a pattern."""
    from mmselfsup_graft.downloads.published import list_files
    from mmselfsup_graft.zoo.index import find_model, list_models

    for file in list_files(pattern.removeprefix('zoo:')):
        yield '  '.join(part for part in _about(file) if part)
    for name in list_models(pattern):
        files = ' '.join(f'zoo:{file.name}' for file in find_model(name).files)
        yield f'{name}  {files}'.rstrip()


def _about(file: 'PublishedFile') -> Iterator[str]:
    yield f'zoo:{file.name}'
    yield file.project
    yield file.architecture
    yield file.kind if file.epochs is None else f'{file.kind}, {file.epochs} epochs'
    yield f'license: {file.license}'
    yield 'size not stated' if file.size is None else f'{file.size:,} bytes'
    yield 'hash not stated' if not file.sha256 and not file.md5 else ''
    yield '' if file.url else f'by hand from {file.page}'
