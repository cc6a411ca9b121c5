"""A recipe from its first stage to its report."""

from pathlib import Path

from mmselfsup_graft.engine.launching.existing import refuse_other_recipe
from mmselfsup_graft.engine.launching.work_dir import exclusive_work_dir

from .jobs import join_processes, run_recipe
from .recipe import Recipe
from .report import Report, write_report


def complete_recipe(
    recipe: Recipe, work_dir: Path, jobs: int = 1, launcher: str = 'none', report_only: bool = False
) -> Report:
    """Run the stages that are not finished, then the report.

    Args:
        recipe: The recipe.
        work_dir: Where to write, with a sub-folder per stage.
        jobs: Number of independent stages that run in parallel.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``; the processes of a launcher run one stage at a time.
        report_only: Only score and draw finished stages.

    Raises:
        ConfigError: If the work directory holds the report of another recipe.
        GraftError: If a stage fails or is missing.
    """
    join_processes(recipe, launcher)
    with exclusive_work_dir(work_dir):
        refuse_other_recipe(work_dir, [stage.name for stage in recipe.stages])
        if not report_only:
            run_recipe(recipe, work_dir, jobs, launcher)
        return write_report(recipe, work_dir)
