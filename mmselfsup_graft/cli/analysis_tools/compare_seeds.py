"""Mean and spread over seeds: ``compare_seeds.py WORK_DIR WORK_DIR ... [--claim "LGP > CL @ 1 label"]``.

Each WORK_DIR is the work directory of one recipe run (``tools/run_recipe.py --cfg-options randomness.seed=N``), or a
folder whose sub-folders are work directories of ``tools/finetune.py``, a row each. A claim is tested on the paired
differences over seeds: it holds, does not hold, or is undecided.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Mean and spread of recipe tables over seeds')
    parser.add_argument(
        'work_dirs',
        nargs='+',
        type=Path,
        help='folders with a table.json, or with runs of tools/finetune.py, one per seed',
    )
    parser.add_argument('--claim', action='append', default=[], help='"ROW > OTHER ROW @ COLUMN"; may be repeated')
    parser.add_argument('--out', type=Path, help='JSON file to write')
    parser.add_argument('--overwrite', action='store_true', help='replace existing results')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Read the tables, average them and test the claims."""
    args = make_parser().parse_args(argv)
    from mmselfsup_graft.engine.launching.existing import refuse_existing
    from mmselfsup_graft.recipes.seeds import evaluate_claim, read_tables, seeds_text, verdicts_text
    from mmselfsup_graft.utils.files import write_json

    refuse_existing([args.out] if args.out else [], args.overwrite, '--out')
    table = read_tables(args.work_dirs)
    verdicts = [evaluate_claim(table, claim) for claim in args.claim]
    print(seeds_text(table))
    if verdicts:
        print(f'\npaired differences in points over seeds, 95 % interval\n{verdicts_text(verdicts)}')
    if args.out:
        cells = {row: {c: table.of(row, c).tolist() for c in table.columns} for row in table.rows}
        write_json(args.out, {'values': cells, 'claims': [asdict(each) for each in verdicts]})
