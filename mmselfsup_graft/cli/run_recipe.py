"""Run all stages of a recipe and its report: ``python tools/run_recipe.py configs/recipes/... [--work-dir DIR]``.

Run the same command again to resume after it was stopped by any means. Under a distributed launcher the stages
run one after the other in the launched processes; otherwise each is a separate process, ``--jobs`` in parallel.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.cli.options import add_cfg_options, add_launch_options


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='Run all stages of a recipe and its report')
    parser.add_argument('recipe', help='recipe file')
    parser.add_argument('--work-dir', help='where to write; default: work_dirs/<recipe name>')
    parser.add_argument('--jobs', type=int, default=1, help='number of parallel stages')
    parser.add_argument('--amp', action='store_true', help='half precision if the machine supports it')
    parser.add_argument(
        '--epochs', type=int, help='length of the longest stage; the others and all schedules in proportion'
    )
    parser.add_argument('--data-root', help='folder of images for all data sets that read a folder')
    parser.add_argument('--max-left-out', type=float, help='share of the files that may be left out; default: 0.05')
    parser.add_argument('--report-only', action='store_true', help='only score and draw finished stages')
    add_cfg_options(parser)
    add_launch_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stages, then the report."""
    args = make_parser().parse_args(argv)
    from mmengine.dist import is_main_process

    from mmselfsup_graft.engine.launching.work_dir import default_work_dir
    from mmselfsup_graft.recipes.recipe import load_recipe
    from mmselfsup_graft.recipes.run_and_report import complete_recipe

    recipe = load_recipe(args.recipe, args.cfg_options, args.amp, args.data_root, args.epochs, args.max_left_out)
    work_dir = Path(args.work_dir or default_work_dir(args.recipe))
    report = complete_recipe(recipe, work_dir, args.jobs, args.launcher, args.report_only)
    if is_main_process():
        print(report.text)
        print(f'checkpoints, table and pictures: {work_dir}')
        print(f'page with all of it: open {work_dir / "report.html"}')
