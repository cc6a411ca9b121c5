"""Publish a checkpoint: ``publish_model.py IN OUT`` writes ``OUT`` with a hash in its name."""

import argparse
from collections.abc import Sequence


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Keep only the weights of a checkpoint')
    parser.add_argument('in_file', help='checkpoint of a training run')
    parser.add_argument('out_file', help='file to write; 8 digits of its SHA-256 are appended to the name')
    parser.add_argument('--keep-followers', action='store_true', help='keep momentum encoders, queues and teachers')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing file')
    parser.add_argument('--unsafe-pickle', action='store_true', help='let the file run code while it is read')
    parser.add_argument('--unverified', action='store_true', help='publish even if no encoder is recognized')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Publish and print a summary."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.export.publish import publish_file

    options = (args.keep_followers, args.overwrite, args.unsafe_pickle, args.unverified)
    _, text = publish_file(args.in_file, args.out_file, *options)
    print(text)
