"""List the model zoo, or download weights: ``download_weights.py [NAME ...] [--list]``."""

import argparse
from collections.abc import Sequence


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='List the model zoo, or download weights')
    parser.add_argument('names', nargs='*', metavar='NAME', help='models whose weights to download')
    parser.add_argument('--list', action='store_true', help='list the models, or those that match NAME')
    parser.add_argument('--folder', help='folder for files; default: $GRAFT_WEIGHTS, else next to torch hub')
    parser.add_argument('--mirror', help='folder or address with files of the same names; default: $GRAFT_MIRROR')
    parser.add_argument('--offline', action='store_true', help='never open a connection; also GRAFT_OFFLINE=1')
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if not args.names and not args.list:
        parser.error('give the name of a model, or --list')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """List or download."""
    args = parse(argv)
    from mmselfsup_graft.zoo.index import download_weights, find_model, list_models

    if args.list:
        for name in [each for pattern in args.names or ['*'] for each in list_models(pattern)]:
            model = find_model(name)
            print(f'{name}  {f"weights: {model.weights_by}" if model.weights else ""}'.rstrip())
        return
    for name in args.names:
        print(download_weights(name, args.folder, mirror=args.mirror, offline=args.offline or None))
