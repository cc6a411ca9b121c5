"""What every trained model of the toolbox shares: an encoder that may be grafted and frozen from below."""

import logging
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmselfsup_graft.checkpoints import (
    Depth,
    GraftSource,
    LoadReport,
    depth_of,
    graft_weights,
    parse_graft,
    patch_grid,
    plan_graft,
    traits_of,
)
from mmselfsup_graft.downloads.resolve import resolve_sources
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.memory_format import contiguous_format


class Grafting(BaseModule):
    """Mixin for a model with a ``backbone``: grafted start, frozen lower layers.

    It stands before the model's other parent, whose ``__init__`` runs as usual; then :meth:`set_up_graft` is called.
    """

    backbone: Any  # a module whose attributes mypy cannot know
    depth: Depth
    graft: list[GraftSource]
    frozen_layers: int

    def set_up_graft(self, graft: Sequence[dict] | None, frozen_layers: int) -> None:
        """Take note of the sources, refuse what does not fit, freeze.

        Args:
            graft: Sources of the encoder's weights, see :mod:`mmselfsup_graft.checkpoints.graft`.
            frozen_layers: Freeze the stem and blocks ``[0, frozen_layers)``; 0 freezes nothing.

        Raises:
            ConfigError: For a graft that does not fit the depth or ``frozen_layers`` outside it.
        """
        self.depth = depth_of(self.backbone)
        self.graft = parse_graft(graft or [])
        plan_graft(self.graft, self.depth)  # refuse an impossible graft before anything is read
        self.frozen_layers = frozen_layers
        self._freeze()

    # ---------------------------------------------------------------- freezing
    def _freeze(self) -> None:
        if not 0 <= self.frozen_layers <= self.depth.num_blocks:
            raise ConfigError(
                f'frozen_layers={self.frozen_layers} is outside 0..{self.depth.num_blocks}, the depth of this backbone'
            )
        # what a source may lack (a mask token) would be frozen in its random start
        exempt = tuple(getattr(self.backbone, 'graft_optional', ()))
        if self.frozen_layers:
            for name, parameter in self.backbone.named_parameters():
                if self.depth.layer_id(name) <= self.frozen_layers and not name.startswith(exempt):
                    parameter.requires_grad = False

    def train(self, mode: bool = True) -> 'Grafting':
        """Set train mode; frozen layers of the encoder stay in eval mode."""
        super().train(mode)
        if mode:
            self._frozen_to_eval(self.backbone)
        return self

    def _frozen_to_eval(self, backbone: nn.Module) -> None:
        """Put the frozen layers of an encoder (ours or a copy of it) into eval mode."""
        for name, module in backbone.named_modules():
            if name and self.frozen_layers and self.depth.layer_id(name) <= self.frozen_layers:
                module.eval()

    # ---------------------------------------------------------------- grafting
    def init_weights(self) -> None:
        """Fresh initialization, then the graft, then everything that follows from the encoder's first weights."""
        with contiguous_format(self):
            super().init_weights()
            if self.graft:
                self._apply_graft()
            self.after_graft()

    def _dump_init_info(self) -> None:
        """Leave out mmengine's several hundred lines per run; the graft report says where weights come from."""

    def _apply_graft(self) -> None:
        weights, report = graft_weights(
            resolve_sources(self.graft),
            self.backbone.state_dict(),
            self.depth,
            grid=patch_grid(self.backbone),
            optional=getattr(self.backbone, 'graft_optional', ()),
            traits=traits_of(self.backbone),
        )
        self.backbone.load_state_dict(weights, strict=False)
        print_log(report.text(), logger='current')
        masked = self._frozen_statistics_of_masked_images(report)
        if masked:
            print_log(
                f'frozen_layers={self.frozen_layers} keeps batch-norm statistics from {", ".join(masked)}, which was '
                'trained on masked images: on whole images they are off; give these layers a low learning rate '
                'instead of freezing them (paramwise_cfg.lr_layer_wise), if the results are poor',
                logger='current',
                level=logging.WARNING,
            )

    def _frozen_statistics_of_masked_images(self, report: LoadReport) -> list[str]:
        """Sources with a mask token, of which frozen layers keep the statistics of batch norm."""
        frozen = {
            report.loaded.get(f'{name}.running_mean')
            for name, module in self.backbone.named_modules()
            if isinstance(module, _BatchNorm) and self.frozen_layers and self.depth.layer_id(name) <= self.frozen_layers
        }
        names = {origin: set(beside) for origin, beside in report.unused.items()}
        for name, origin in report.loaded.items():
            names.setdefault(origin, set()).add(name)
        masked = [origin for origin, all_names in names.items() if any(n.endswith('mask_token') for n in all_names)]
        return [origin for origin in masked if origin in frozen]

    def after_graft(self) -> None:
        """Take note of the encoder's first weights; subclasses extend it."""
