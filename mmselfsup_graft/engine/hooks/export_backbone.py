"""Export of the encoder after training."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmselfsup_graft.checkpoints import TARGETS, convert, save_weights, traits_of
from mmselfsup_graft.engine.execution.sharding import gathered
from mmselfsup_graft.engine.run_parts import unwrapped_model
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import HOOKS
from mmselfsup_graft.version import __version__


@HOOKS.register_module()
class ExportBackboneHook(Hook):
    """After training, write the encoder as a plain backbone into the work directory.

    Parts for pre-training only (decoder, momentum encoder, optimizer) are left out; TEC's class token is merged, so
    the file is an ordinary ViT.

    Args:
        target: Library whose names it gets, see :data:`mmselfsup_graft.checkpoints.TARGETS`.
        filename: Name of the file.

    Raises:
        ConfigError: If there is no such target.
    """

    priority = 'VERY_LOW'  # after the last checkpoint

    def __init__(self, target: str = 'mmpretrain', filename: str = 'backbone.pth') -> None:
        if target not in TARGETS:
            raise ConfigError(f'ExportBackboneHook: unknown target {target!r}; known: {", ".join(TARGETS)}')
        self.target, self.filename = target, filename

    def after_train(self, runner: Runner) -> None:
        """Convert and write, on the first process."""
        state = gathered(dict(unwrapped_model(runner).state_dict()))  # by all processes
        if not is_main_process():
            return
        state = {name: value.detach().cpu() for name, value in state.items()}
        path = Path(runner.work_dir) / self.filename
        known = traits_of(unwrapped_model(runner)).as_meta()
        done = convert({'state_dict': state, 'meta': {'encoder': known}}, 'the trained model', self.target)
        meta = {
            'tool': f'mmselfsup_graft {__version__}',
            'target': self.target,
            'experiment': runner.experiment_name,
            'iter': runner.iter,
            'encoder': done.traits.as_meta(),
        }
        save_weights(done.state, meta, path, overwrite=True)
        runner.logger.info(f'backbone for {done.target.about}: {path}')
