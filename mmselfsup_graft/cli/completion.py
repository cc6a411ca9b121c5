"""Print the completion script of a shell: ``graft completion bash``.

For one session: ``eval "$(graft completion bash)"``.
"""

import argparse
from collections.abc import Sequence

SHELLS = ('bash', 'zsh', 'tcsh')


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Print the completion script of a shell')
    parser.add_argument('shell', choices=SHELLS)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the script."""
    args = make_parser().parse_args(argv)
    import shtab

    from .graft import full_parser

    print(shtab.complete(full_parser(), args.shell))
