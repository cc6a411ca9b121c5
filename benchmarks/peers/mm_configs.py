"""Training configs of the toolbox and of mmpretrain at the sizes that are compared."""

from pathlib import Path
from typing import Any

import mmpretrain
import torch
from harness.task import Settings
from mmengine.config import Config

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.engine.config.check import check_config
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.registry import MODELS

from .mm_runner import no_images

TWO_VIEWS = ('mocov3', 'lgp', 'moco')
SMALL_CROPS = 6  # of SwAV, beside two large ones
TINY_SIDE, SIDE = 64, 224
TINY_PROTOTYPES = 100
TINY_ARCH = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=96)
SMALL_ARCH = dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536)

_OWN = Path(__file__).resolve().parents[2] / 'configs'
_OWN_FILES = {
    'mae': 'mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py',
    'mocov3': 'mocov3/mocov3_vit-base-p16_8xb512-amp-coslr-300e_in1k.py',
    'lgp': 'layer_grafted/layer-grafted_vit-base-p16_64xb64-amp-coslr-300e_in1k.py',
    'simmim': 'simmim/simmim_vit-base-p16_8xb128-steplr-800e_in1k.py',
    'tec': 'tec/tec-mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py',
    'moco': 'moco/moco-v2_resnet50_8xb32-coslr-200e_in1k.py',
    'a2mim': 'a2mim/a2mim_resnet50_8xb256-coslr-100e_in1k.py',
    'swav': 'swav/swav_resnet50_64xb64-amp-coslr-200e_in1k.py',
}
_SIZED_OWN_FILES = {
    ('mae', 'vit-l'): 'mae/mae_vit-large-p16_8xb512-amp-coslr-800e_in1k.py',
    ('mocov3', 'vit-s'): 'mocov3/mocov3_vit-small-p16_8xb512-amp-coslr-300e_in1k.py',
}
_PEER_FILES = {
    'mae': 'mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py',
    'mocov3': 'mocov3/mocov3_vit-base-p16_16xb256-amp-coslr-300e_in1k.py',
    'lgp': 'mocov3/mocov3_vit-base-p16_16xb256-amp-coslr-300e_in1k.py',
    'moco': 'mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py',
    'simmim': 'simmim/simmim_swin-base-w6_16xb128-amp-coslr-800e_in1k-192px.py',
    'a2mim': 'simmim/simmim_swin-base-w6_16xb128-amp-coslr-800e_in1k-192px.py',
    'swav': 'swav/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px.py',
}
_SIZED_PEER_FILES = {
    ('mae', 'vit-l'): 'mae/mae_vit-large-p16_8xb512-amp-coslr-1600e_in1k.py',
    ('mocov3', 'vit-s'): 'mocov3/mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k.py',
}
_PEER_NOTES = {
    'swav': 'without its hook, which fills the queue from epoch 15 on',
    'lgp': "its MoCo v3: it has no layer-wise rates for it, the step's work is the same",
    'simmim': 'its BEiT backbone, SimMIM decoder and head, put together here: it ships SimMIM with Swin only',
    'a2mim': 'its ResNet, SimMIM decoder and L1 head, token before the last stage: a lighter objective, it has no '
    'Fourier loss',
}


def view_sides(algorithm: str, side: int) -> list[int]:
    """Side of every view of an image; of one view for algorithms without views."""
    if algorithm == 'swav':
        return [side] * 2 + [32 if side == TINY_SIDE else 96] * SMALL_CROPS
    return [side] * (2 if algorithm in TWO_VIEWS else 1)


def own_config(algorithm: str, size: str, settings: Settings, folder: str, compiled: bool) -> tuple[Config, str]:
    """Config of the toolbox, and a note on it.

    Args:
        algorithm: First part of the subject.
        size: The rest of it.
        settings: Shared settings.
        folder: Where a base model's file may be written.
        compiled: Ask for compiled blocks.

    Raises:
        ConfigError: If this version of the toolbox does not know an option.
    """
    cfg = load_config(_OWN / _SIZED_OWN_FILES.get((algorithm, size), _OWN_FILES[algorithm]))
    _resize_own(cfg, algorithm, size)
    cfg.model.graft = None
    if algorithm == 'tec':
        cfg.model.base_checkpoint = _random_base_model(cfg, folder)
    wrapper = cfg.optim_wrapper
    wrapper.type, wrapper.dtype = 'AutocastOptimWrapper', 'bfloat16' if settings.precision == 'bf16' else 'float32'
    if compiled:
        cfg.compile = True
    check_config(cfg)
    _set_batches(cfg, settings, SIDE if size != 'tiny' else TINY_SIDE)
    notes = {'lgp': 'fresh weights instead of a graft', 'moco': 'bn_groups=1, as the others'}
    return cfg, notes.get(algorithm, '')


def _resize_own(cfg: Config, algorithm: str, size: str) -> None:
    model = cfg.model
    if algorithm == 'moco':
        model.backbone.depth, model.bn_groups = 18 if size == 'tiny' else 50, 1
        model.channels_last = size != 'tiny'  # as in the small configs
        return
    arch = {'tiny': TINY_ARCH, 'vit-s': SMALL_ARCH}.get(size)
    if arch is None or (algorithm, size) in _SIZED_OWN_FILES:
        return
    if algorithm == 'a2mim':
        model.backbone.depth, model.neck.in_channels = 18, 512
        return
    if algorithm == 'swav':
        model.backbone.depth, model.head.num_prototypes = 18, TINY_PROTOTYPES
        model.channels_last = False  # as in the small configs
        model.neck.update(hid_channels=64, out_channels=32)
        return
    model.backbone.arch = arch
    if size == 'tiny':
        model.backbone.img_size = TINY_SIDE
    width = arch['embed_dims']
    if algorithm == 'mae':
        model.neck.embed_dim = width
        if size == 'tiny':
            model.neck.num_patches = (TINY_SIDE // 16) ** 2
            model.neck.update(decoder_embed_dim=48, decoder_depth=1, decoder_num_heads=3)
    elif algorithm == 'simmim':
        model.neck.in_channels = width
    elif algorithm == 'tec':
        model.base_model.arch = arch
        if size == 'tiny':
            model.base_model.img_size = TINY_SIDE
            model.neck.update(decoder_embed_dim=48, decoder_num_heads=3)
    else:
        _shrink_projectors(model, width)


def _shrink_projectors(model: Any, width: int) -> None:
    for part, first in ((model.neck, width), (model.head.predictor, 32)):
        part.in_channels, part.hid_channels, part.out_channels = first, 64, 32


def _random_base_model(cfg: Config, folder: str) -> str:
    """A file with random weights for TEC's base model: their values do not change the cost of a step."""
    state = MODELS.build({**cfg.model.base_model}).state_dict()
    path = Path(folder) / 'base.pth'
    save_atomically({'state_dict': {f'backbone.{name}': value for name, value in state.items()}}, path)
    return str(path)


def _set_batches(cfg: Config, settings: Settings, side: int) -> None:
    cfg.train_dataloader = no_images(settings.batch_size)
    cfg.optim_wrapper.pop('accumulative_counts', None)
    cfg.benchmark_side = side


def mmpretrain_config(algorithm: str, size: str, settings: Settings, tuned: bool) -> tuple[Config, str]:
    """Config of mmpretrain, and a note on it.

    Args:
        algorithm: First part of the subject.
        size: The rest of it.
        settings: Shared settings.
        tuned: Fused AdamW, autocast without loss scaling, cuDNN's choice of kernels.
    """
    register_peers()
    folder = Path(mmpretrain.__file__).parent / '.mim' / 'configs'
    cfg = Config.fromfile(folder / _SIZED_PEER_FILES.get((algorithm, size), _PEER_FILES[algorithm]))
    cfg.default_scope = 'mmpretrain'
    _resize_peer(cfg, algorithm, size, settings)
    notes = [_PEER_NOTES.get(algorithm, '')]
    wrapper = cfg.optim_wrapper
    wrapper.pop('loss_scale', None)
    if tuned:
        wrapper.type, wrapper.dtype = 'mmselfsup_graft.AutocastOptimWrapper', _half(settings) or 'float32'
        if wrapper.optimizer.type != 'LARS':  # which has no fused form there
            wrapper.optimizer.fused = True
        cfg.env_cfg.cudnn_benchmark = True
    elif _half(settings) and settings.device == 'cuda':
        wrapper.update(type='AmpOptimWrapper', dtype='bfloat16', loss_scale='dynamic')
    elif _half(settings):
        wrapper.type, wrapper.dtype = 'mmselfsup_graft.AutocastOptimWrapper', 'bfloat16'
        notes.append('its own mixed precision refuses a CPU: ours')
    else:
        wrapper.type = 'OptimWrapper'
    _set_batches(cfg, settings, SIDE if size != 'tiny' else TINY_SIDE)
    return cfg, '; '.join(filter(None, notes))


def _half(settings: Settings) -> str | None:
    return 'bfloat16' if settings.precision == 'bf16' else None


def _resize_peer(cfg: Config, algorithm: str, size: str, settings: Settings) -> None:
    model = cfg.model
    tiny = size == 'tiny'
    arch = {'tiny': TINY_ARCH, 'vit-s': SMALL_ARCH}.get(size)
    if algorithm == 'simmim':
        width = TINY_ARCH['embed_dims'] if tiny else 768
        side = TINY_SIDE if tiny else SIDE
        model.backbone = dict(
            type='MaskedMapBEiT',
            arch=arch or 'base',
            img_size=side,
            patch_size=16,
            drop_path_rate=0.1,
            out_type='featmap',
            use_abs_pos_emb=True,
            use_rel_pos_bias=True,
            use_shared_rel_pos_bias=False,
        )
        model.neck.update(in_channels=width, encoder_stride=16)
        model.head.patch_size = 16
    elif algorithm == 'moco':
        model.backbone.depth, model.neck.in_channels = (18, 512) if tiny else (50, 2048)
    elif algorithm == 'a2mim':
        model.backbone = dict(type='MaskedMapResNet', depth=18 if tiny else 50)
        model.neck.in_channels = 512 if tiny else 2048
        model.head.patch_size = 16
    elif algorithm == 'swav':
        if tiny:
            model.backbone.depth = 18
            model.neck.update(in_channels=512, hid_channels=64, out_channels=32)
            model.head.loss.update(feat_dim=32, num_prototypes=TINY_PROTOTYPES)
        if settings.device == 'cpu':
            model.backbone.norm_cfg, model.neck.norm_cfg = dict(type='BN'), dict(type='BN1d')
    elif algorithm == 'mae' and arch:
        model.backbone.arch = arch
        model.neck.embed_dim = arch['embed_dims']
        if tiny:
            model.backbone.img_size = TINY_SIDE
            model.neck.update(num_patches=(TINY_SIDE // 16) ** 2)
            model.neck.update(decoder_embed_dim=48, decoder_depth=1, decoder_num_heads=3)
    elif algorithm in TWO_VIEWS:
        if tiny:
            model.backbone.arch, model.backbone.img_size = arch, TINY_SIDE
            _shrink_projectors(model, TINY_ARCH['embed_dims'])
        if settings.device == 'cpu':  # its synchronized batch norm refuses a CPU; in one process both do the same
            for part in (model.neck, model.head.predictor):
                part.norm_cfg = dict(type='BN1d')


def register_peers() -> None:
    """Register what is put together from mmpretrain's parts."""
    from mmpretrain.models import BEiTPretrainViT, ResNet
    from mmpretrain.registry import MODELS as REGISTRY
    from torch import nn

    class MaskedMapBEiT(BEiTPretrainViT):
        """mmpretrain's masked BEiT, its patches as a map."""

        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor]:
            tokens = super().forward(x, mask)[0][:, 1:]  # [B, L, D]
            return (tokens.transpose(1, 2).reshape(len(x), -1, *self.patch_resolution),)

    class MaskedMapResNet(ResNet):
        """mmpretrain's ResNet with a token instead of the masked features before its last stage."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            width = self.layer4[0].in_channels
            self.mask_token = nn.Parameter(torch.zeros(1, width, 1, 1))
            self._mask: torch.Tensor | None = None
            self.layer4.register_forward_pre_hook(self._put_token)

        def _put_token(self, module: nn.Module, args: tuple[torch.Tensor]) -> torch.Tensor:
            hidden = self._mask[:, None].to(args[0].dtype)  # type: ignore[index]
            return args[0] * (1 - hidden) + self.mask_token * hidden

        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
            self._mask = mask
            return super().forward(x)

    for cls in (MaskedMapBEiT, MaskedMapResNet):
        REGISTRY.register_module(module=cls, force=True)
