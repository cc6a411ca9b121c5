"""Child process of a recipe: runs one stage (``python -m mmselfsup_graft.cli.recipe_stage``)."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from mmselfsup_graft.recipes.recipe import load_recipe
from mmselfsup_graft.recipes.stage_run import run_stage
from mmselfsup_graft.utils.stop_signals import die_with_parent

from .running import run_tool


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments from :mod:`mmselfsup_graft.recipes.jobs` and run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('recipe')
    parser.add_argument('--work-dir', required=True)
    parser.add_argument('--only', required=True)
    parser.add_argument('--amp', action='store_true')
    parser.add_argument('--data-root')
    parser.add_argument('--epochs', type=int)
    parser.add_argument('--max-left-out', type=float)
    parser.add_argument('--options', type=json.loads, default={})
    args = parser.parse_args(argv)
    die_with_parent()
    recipe = load_recipe(args.recipe, args.options, args.amp, args.data_root, args.epochs, args.max_left_out)
    run_stage(recipe.stage(args.only), Path(args.work_dir))


if __name__ == '__main__':
    run_tool(main)
