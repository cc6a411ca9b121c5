"""``python tests/chaos [--rounds N] [--seed S] [--minutes M] [--only WORD ...] [--out FILE]``."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('GRAFT_MMCV_OPS', 'torchvision')
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from chaos.all import SCENARIOS  # noqa: E402  (found by the path above)
from chaos.scenario import as_json, as_table, run_rounds, write_json  # noqa: E402


def main() -> int:
    """Run rounds; print a table and write the result."""
    parser = argparse.ArgumentParser(description='Kill, starve and misfeed trainings and tools, at random.')
    parser.add_argument('--rounds', type=int, default=60, help='of all scenarios together (default 60)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--minutes', type=float, help='begin no round after so many minutes')
    parser.add_argument('--only', nargs='+', metavar='WORD', help='scenarios with one of these words in their name')
    parser.add_argument('--folder', type=Path, help='for the files; default: a temporary folder')
    parser.add_argument('--out', type=Path, help='write the result as JSON')
    args = parser.parse_args()
    chosen = [each for each in SCENARIOS if not args.only or any(word in each.name for word in args.only)]
    if not chosen:
        parser.error(f'no scenario has one of these words; there are: {", ".join(each.name for each in SCENARIOS)}')
    folder = args.folder or Path(tempfile.mkdtemp(prefix='chaos_'))
    began = time.monotonic()
    tallies = run_rounds(
        chosen, args.rounds, args.seed, folder, None if args.minutes is None else 60 * args.minutes, _say
    )
    result = as_json(
        tallies, args.seed, [Path(sys.executable).name, 'tests/chaos', *sys.argv[1:]], time.monotonic() - began
    )
    print(as_table(result))
    failed = 0
    for name, each in tallies.items():
        for failure in each.failures:
            failed += 1
            print(f'FAILED {name}, round {failure["round"]}: {failure["reason"]}\n  files: {failure["files"]}')
    if args.out:
        write_json(result, args.out)
    return int(failed > 0)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == '__main__':
    sys.exit(main())
