"""Commands for using the encoders of a recipe, and descriptions of its files."""

import shlex
from pathlib import Path

from mmselfsup_graft.recipes.recipe import TRAIN, Recipe, Stage, stage_checkpoint

from .content import Command

_CONVERT = (
    'Convert it to {library}. The command loads the result into the model of {library} to check it; it reports if '
    '{library} is not installed or has no such model:'
)
_FILES = {
    'table.json': 'the table with all settings',
    'table.txt': 'the table as text',
    'loss_curves.png': 'the loss of every training',
    'lr_over_depth.png': 'the peak learning rate of every layer',
}


def commands_for(recipe: Recipe, work_dir: Path) -> list[Command]:
    """Embed, score and convert the encoder of the last row of the report, or of the last stage.

    Embedding and scoring need the config that the training wrote; without it only the conversion is left.
    """
    rows = recipe.report.get('rows', [])
    stage = (
        recipe.stage(rows[-1]['stage'])
        if rows
        else next(each for each in reversed(recipe.stages) if each.kind == TRAIN)
    )
    name = rows[-1]['name'] if rows else stage.name
    config, checkpoint = run_config(work_dir, stage), stage_checkpoint(work_dir, stage.name)
    commands = []
    if config is not None and 'evaluation' in stage.cfg:
        commands.append(
            Command(
                f'Features of {name} in Python:',
                'from mmengine.config import Config\n'
                'from mmselfsup_graft.evaluation.encoders import embed_images, load_encoder\n\n'
                f'cfg = Config.fromfile({str(config)!r})\n'
                f'encoder = load_encoder(cfg, {str(checkpoint)!r})\n'
                'features = embed_images(encoder, cfg.evaluation.test).features  # name -> array [N, D]',
                'python',
            )
        )
        commands.append(
            Command(
                'Score it again (needs labels):', shlex.join(['python', 'tools/test.py', str(config), str(checkpoint)])
            )
        )
    library = 'mmpretrain' if 'Swin' in stage.cfg.model.backbone.type else 'timm'  # timm's Swin does not fit ours
    target = f'{stage.name}_{library}.pth'
    line = shlex.join(['python', 'tools/model_converters/convert.py', str(checkpoint), target, '--to', library])
    commands.append(Command(_CONVERT.format(library=library), line))
    return commands


def run_config(work_dir: Path, stage: Stage) -> Path | None:
    """The newest config that a training wrote into its folder, with all values and resolved references; None if
    missing.
    """
    written = sorted((work_dir / stage.name).glob('*.py'), key=lambda path: path.stat().st_mtime)
    return written[-1] if written else None


def files_of(recipe: Recipe, work_dir: Path) -> dict[str, str]:
    """Path below the work directory -> description, for all existing files."""
    found = {name: about for name, about in _FILES.items() if (work_dir / name).is_file()}
    for path in sorted(work_dir.glob('reconstructions_*.png')):
        found[path.name] = f'reconstructions by {path.stem.removeprefix("reconstructions_")}'
    rows = {row['stage']: row['name'] for row in recipe.report.get('rows', [])}
    for stage in recipe.trainings:
        checkpoint = stage_checkpoint(work_dir, stage.name).relative_to(work_dir)
        said = f' ({rows[stage.name]} in the table)' if stage.name in rows else ''
        found[str(checkpoint)] = f'final checkpoint of the stage {stage.name}{said}'
    return found
