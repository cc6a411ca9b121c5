"""Builders and small tools shared by the tests.

Golden numbers come from :mod:`golden_sets`. All sizes are read off the arrays. One thing is not visible in a shape:
the number of attention heads. :func:`candidate_heads` lists the divisors of the width, most plausible first (16 wide
heads in the encoder and 8 wide ones in the decoder, as in the sets known to us); :func:`moco_from_golden` and
:func:`mae_from_golden` take the first that reproduces one recorded number (the class token after the first block, the
first masked-image loss). That is an identification of one small integer: a faulty model matches for none, then the
most plausible one is used and the tests fail on it.
"""

import importlib.util
import re
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from forked import fork_context
from golden_sets import golden
from torch import nn

TESTS = Path(__file__).parent
PROJECTOR, PREDICTOR = 'base_encoder.head', 'predictor'


def enter_scope() -> None:
    """Register our modules and make our scope the default one."""
    if importlib.util.find_spec('mmselfsup_graft.libraries.scopes'):
        from mmselfsup_graft import register_all_modules

        register_all_modules()
    else:
        from mmengine.registry import DefaultScope

        import mmselfsup_graft.engine
        import mmselfsup_graft.models  # noqa: F401

        if DefaultScope.get_current_instance() is None:
            DefaultScope.get_instance('tests', scope_name='mmselfsup_graft')


# ---------------------------------------------------------------- values
def tensor(array: Any, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """A copy of an array as a tensor: floating-point values in ``dtype``, others as integers of 64 bits."""
    value = torch.from_numpy(np.array(array))
    return value.to(dtype) if value.is_floating_point() else value.long()


def assert_close(actual: Any, expected: Any, rtol: float = 1e-8, atol: float = 0.0, name: str = '') -> None:
    """Compare values: ``rtol`` is relative to the largest entry of ``expected``, NaN is never equal."""
    actual, expected = (
        each.detach().cpu().double().numpy() if isinstance(each, torch.Tensor) else np.asarray(each, float)
        for each in (actual, expected)
    )
    assert actual.shape == expected.shape, f'{name}: shape {actual.shape}, expected {expected.shape}'
    worst = float(np.abs(actual - expected).max()) if actual.size else 0.0
    allowed = atol + rtol * (float(np.abs(expected).max()) if expected.size else 0.0)
    assert worst <= allowed, f'{name}: differs by {worst:.3e}, allowed {allowed:.3e}'


# ---------------------------------------------------------------- configs
def vit_config(
    width: int = 16, depth: int = 3, heads: int = 2, img_size: int = 16, patch_size: int = 4, **kwargs: Any
) -> dict[str, Any]:
    """Config of a small SelfSupViT; keyword ``feedforward`` sets the hidden width of the MLPs."""
    arch = {
        'embed_dims': width,
        'num_layers': depth,
        'num_heads': heads,
        'feedforward_channels': kwargs.pop('feedforward', 4 * width),
    }
    return {'type': 'SelfSupViT', 'arch': arch, 'img_size': img_size, 'patch_size': patch_size, **kwargs}


def mlp_config(inside: int, hidden: int, outside: int, layers: int, **kwargs: Any) -> dict[str, Any]:
    """Config of MoCo v3's projector or predictor: bias-free linears, the last batch norm without affine."""
    return {
        'type': 'mmpretrain.NonLinearNeck',
        'in_channels': inside,
        'hid_channels': hidden,
        'out_channels': outside,
        'num_layers': layers,
        'with_bias': False,
        'with_last_bn': True,
        'with_last_bn_affine': False,
        'with_last_bias': False,
        'with_avg_pool': False,
        'norm_cfg': {'type': 'PortableSyncBN'},
        **kwargs,
    }


def moco_config(
    backbone: dict | None = None, hidden: int = 32, out: int = 8, temperature: float = 0.2, **kwargs: Any
) -> dict[str, Any]:
    """Config of a small MoCoV3 on a ViT."""
    backbone = backbone or vit_config()
    return {
        'type': 'MoCoV3',
        'backbone': backbone,
        'neck': mlp_config(backbone['arch']['embed_dims'], hidden, out, 3),
        'head': {
            'type': 'ContrastiveHead',
            'temperature': temperature,
            'predictor': mlp_config(out, hidden, out, 2),
        },
        **kwargs,
    }


def mae_config(
    backbone: dict | None = None,
    decoder_width: int = 16,
    decoder_depth: int = 1,
    decoder_heads: int = 2,
    decoder_ratio: float = 4,
    norm_pix: bool = True,
    **kwargs: Any,
) -> dict[str, Any]:
    """Config of a small MAE."""
    backbone = backbone or vit_config()
    patch, channels = backbone['patch_size'], backbone.get('in_channels', 3)
    return {
        'type': 'MAE',
        'backbone': {**backbone, 'final_norm': True},
        'neck': {
            'type': 'MAEDecoder',
            'num_patches': (backbone['img_size'] // patch) ** 2,
            'patch_size': patch,
            'in_chans': channels,
            'embed_dim': backbone['arch']['embed_dims'],
            'decoder_embed_dim': decoder_width,
            'decoder_depth': decoder_depth,
            'decoder_num_heads': decoder_heads,
            'mlp_ratio': decoder_ratio,
        },
        'head': {
            'type': 'mmpretrain.MAEPretrainHead',
            'norm_pix': norm_pix,
            'patch_size': patch,
            'in_channels': channels,
            'loss': {'type': 'mmpretrain.PixelReconstructionLoss', 'criterion': 'L2'},
        },
        **kwargs,
    }


def tec_config(
    backbone: dict | None = None,
    base: dict | None = None,
    checkpoint: str | dict | None = None,
    topk: int | None = 3,
    neck: dict | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Config of a small TEC whose base model is like its backbone unless ``base`` says otherwise."""
    backbone = {**(backbone or vit_config()), 'type': 'TECViT'}
    sizes = {key: backbone[key] for key in ('arch', 'img_size', 'patch_size', 'in_channels') if key in backbone}
    return {
        'type': 'TEC',
        'base_model': {'type': 'TargetViT', **sizes, 'topk': topk, **(base or {})},
        'base_checkpoint': checkpoint,
        'backbone': backbone,
        'neck': {
            'type': 'TECDecoder',
            'decoder_embed_dim': 16,
            'decoder_depth': 1,
            'decoder_num_heads': 2,
            **(neck or {}),
        },
        'head': {'type': 'TECHead', 'tau': 1.8},
        **kwargs,
    }


def write_base_model(config: dict[str, Any], path: Path) -> str:
    """Write fresh weights of a config's base model, as a run of MAE leaves them; returns the path."""
    from mmselfsup_graft.checkpoints import save_atomically

    sizes = {key: value for key, value in config['base_model'].items() if key not in ('topk', 'last_layers')}
    base = build({'in_channels': config['backbone'].get('in_channels', 3), **sizes, 'type': 'SelfSupViT'})
    base.init_weights()
    save_atomically({'state_dict': {f'backbone.{name}': value for name, value in base.state_dict().items()}}, path)
    return str(path)


def multi_task_config(backbone: dict | None = None, weights: tuple[float, float] = (1.0, 1.0), **kwargs: Any) -> dict:
    """Config of a small MultiTask of MAE (view 2) and MoCo v3 (views 0 and 1)."""
    backbone = backbone or vit_config()
    mim, cl = mae_config(backbone), moco_config(backbone)
    del mim['backbone'], cl['backbone']
    return {
        'type': 'MultiTask',
        'backbone': backbone,
        'objectives': {
            'mim': {'model': mim, 'views': 2, 'weight': weights[0]},
            'cl': {'model': cl, 'views': [0, 1], 'weight': weights[1]},
        },
        **kwargs,
    }


def build(config: Mapping[str, Any]) -> Any:
    """Build a model from its config."""
    from mmselfsup_graft.registry import MODELS

    return MODELS.build(dict(config))


# ---------------------------------------------------------------- models from golden arrays
def count_numbered(names: Iterable[str], prefix: str) -> int:
    """How many consecutive numbers follow ``prefix.`` in the names: blocks of a transformer."""
    numbers = {int(m[1]) for m in (re.match(rf'{re.escape(prefix)}\.(\d+)\.', n) for n in names) if m}
    assert numbers == set(range(len(numbers))), f'{prefix}: the numbers {sorted(numbers)} have gaps'
    return len(numbers)


def randomized(config: dict[str, Any]) -> nn.Module:
    """A backbone in eval mode in which no weight has a special value."""
    torch.manual_seed(0)
    model = build(config)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if 'var' in name else 0.3 * torch.randn_like(value))
    model.eval()  # mmpretrain's backbones return nothing
    return model


def candidate_heads(width: int, head_dim: int) -> list[int]:
    """Head counts that divide ``width``, the one with ``head_dim`` channels per head first, then by closeness to it."""
    divisors = [n for n in range(1, width + 1) if width % n == 0]
    return sorted(divisors, key=lambda n: abs(np.log(width / n / head_dim)))


def vit_config_from_state(state: Mapping[str, Any], img_size: int, prefix: str, heads: int, **kwargs: Any) -> dict:
    """Config of the ViT whose official arrays are ``{prefix}*``; everything but the heads comes from shapes."""
    projection = state[f'{prefix}patch_embed.proj.weight']
    width, channels, patch, _ = projection.shape
    assert state[f'{prefix}pos_embed'].shape[1] == (img_size // patch) ** 2 + 1
    return vit_config(
        width,
        count_numbered(state, f'{prefix}blocks'),
        heads,
        img_size,
        patch,
        feedforward=state[f'{prefix}blocks.0.mlp.fc1.weight'].shape[0],
        in_channels=channels,
        **kwargs,
    )


def mlp_config_from_state(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Config of a projector or predictor from its official arrays ``{prefix}.{0, 3, ...}.weight``."""
    found = ((re.fullmatch(rf'{re.escape(prefix)}\.(\d+)\.weight', name), value) for name, value in state.items())
    by_position = {int(match[1]): value for match, value in found if match and value.ndim == 2}
    linears = [by_position[position] for position in sorted(by_position)]
    hidden, inside = linears[0].shape
    return mlp_config(inside, hidden, linears[-1].shape[0], len(linears))


def canonical_moco_state(*states: Mapping[str, Any], dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """Official MoCo v3 arrays as a state dict of our MoCoV3."""
    from mmselfsup_graft.checkpoints import MOCOV3_MODEL

    return {MOCOV3_MODEL.to_canonical(k): tensor(v, dtype) for state in states for k, v in state.items()}


def moco_from_golden(
    dtype: torch.dtype = torch.float64, momentum: str = 'file', method: str = 'layer_grafted', **kwargs: Any
) -> Any:
    """MoCoV3 in train mode with the weights of the golden set.

    Args:
        dtype: Precision of weights and buffers.
        momentum: ``file`` takes the momentum encoder from its own file, ``copy`` from the base encoder.
        method: Sub-folder of the golden set.
        **kwargs: ``backbone`` options are merged into the backbone's config, the rest into the model's.
    """
    state, step = golden('moco_state_base.npz', method), golden('moco_step.npz', method)
    backbone = vit_config_from_state(state, step['x1'].shape[-1], 'base_encoder.', _encoder_heads(method))
    config = moco_config(
        {**backbone, 'init': 'mocov3', **kwargs.pop('backbone', {})},
        temperature=float(step['temperature']),
        base_momentum=kwargs.pop('base_momentum', float(step['momentum'])),
        **kwargs,
    )
    config['neck'] = mlp_config_from_state(state, PROJECTOR)
    config['head']['predictor'] = mlp_config_from_state(state, PREDICTOR)
    model = build(config).to(dtype)
    load_moco(model, momentum, dtype, method)
    return model.train()


def load_moco(
    model: Any, momentum: str = 'file', dtype: torch.dtype = torch.float64, method: str = 'layer_grafted'
) -> None:
    """Put the golden weights into a MoCoV3; every tensor must find its place."""
    state = golden('moco_state_base.npz', method)
    if momentum == 'file':
        other = golden('moco_state_momentum.npz', method)
    else:
        other = {k.replace('base_', 'momentum_', 1): v for k, v in state.items() if k.startswith('base_')}
    model.load_state_dict(canonical_moco_state(state, other, dtype=dtype), strict=True)


@cache
def _encoder_heads(method: str) -> int:
    state, step = golden('moco_state_base.npz', method), golden('moco_step.npz', method)
    width = state['base_encoder.cls_token'].shape[-1]
    candidates = candidate_heads(width, 16)
    for heads in candidates:
        vit = vit_from_state(state, step['x1'].shape[-1], 'base_encoder.', heads)
        if np.allclose(block_class_tokens(vit, tensor(step['x1']))[0], step['block_cls_x1'][0], rtol=1e-6, atol=1e-9):
            return heads
    return candidates[0]


def vit_from_state(state: Mapping[str, Any], img_size: int, prefix: str, heads: int) -> Any:
    """A double-precision SelfSupViT with the official arrays ``{prefix}*`` (projector left out)."""
    from mmselfsup_graft.checkpoints import VIT_TIMM

    vit = build(vit_config_from_state(state, img_size, prefix, heads)).double()
    inner = {k[len(prefix) :]: tensor(v) for k, v in state.items() if k.startswith(prefix)}
    vit.load_state_dict({VIT_TIMM.to_canonical(k): v for k, v in inner.items() if not k.startswith('head.')})
    return vit


@torch.no_grad()
def block_class_tokens(vit: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Class token after each block, [depth, B, D]."""
    found: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda _m, _i, out: found.append(out[:, 0])) for layer in vit.layers]
    vit.encode(images)
    for hook in hooks:
        hook.remove()
    return torch.stack(found)


def mae_from_golden(dtype: torch.dtype = torch.float64, method: str = 'layer_grafted', **kwargs: Any) -> Any:
    """MAE in train mode: encoder of ``moco_state_base.npz`` under ``mae_decoder_state.npz``."""
    state, decoder = golden('moco_state_base.npz', method), golden('mae_decoder_state.npz', method)
    model = build(_mae_golden_config(_encoder_heads(method), _decoder_heads(method), method, **kwargs)).to(dtype)
    model.load_state_dict(canonical_mae_state(state, decoder, dtype), strict=True)
    return model.train()


def canonical_mae_state(
    moco: Mapping[str, Any], decoder: Mapping[str, Any], dtype: torch.dtype = torch.float64
) -> dict[str, torch.Tensor]:
    """State dict of our MAE from MoCo v3's base encoder and MAE's decoder arrays."""
    from mmselfsup_graft.checkpoints import MAE_MODEL

    prefix = 'base_encoder.'
    encoder = {k[len(prefix) :]: v for k, v in moco.items() if k.startswith(prefix) and not k.startswith(PROJECTOR)}
    return {MAE_MODEL.to_canonical(k): tensor(v, dtype) for k, v in {**encoder, **decoder}.items()}


def _mae_golden_config(heads: int, decoder_heads: int, method: str, **kwargs: Any) -> dict[str, Any]:
    state, decoder = golden('moco_state_base.npz', method), golden('mae_decoder_state.npz', method)
    img_size = golden('gradient_cosine_inputs.npz', method)['image'].shape[-1]
    width = decoder['mask_token'].shape[-1]
    return mae_config(
        vit_config_from_state(state, img_size, 'base_encoder.', heads),
        decoder_width=width,
        decoder_depth=count_numbered(decoder, 'decoder_blocks'),
        decoder_heads=decoder_heads,
        decoder_ratio=decoder['decoder_blocks.0.mlp.fc1.weight'].shape[0] / width,
        mask_ratio=float(golden('gradient_cosine.npz', method)['mask_ratio']),
        **kwargs,
    )


@cache
def _decoder_heads(method: str) -> int:
    state, decoder = golden('moco_state_base.npz', method), golden('mae_decoder_state.npz', method)
    inputs, expected = (
        golden('gradient_cosine_inputs.npz', method),
        golden('gradient_cosine.npz', method)['mim_loss'][0],
    )
    candidates = candidate_heads(decoder['mask_token'].shape[-1], 8)
    for heads in candidates:
        model = build(_mae_golden_config(_encoder_heads(method), heads, method)).double()
        model.load_state_dict(canonical_mae_state(state, decoder))
        with torch.no_grad():
            loss = model.loss(tensor(inputs['image'][0]), noise=tensor(inputs['mask_noise'][0]))['loss']
        if np.isclose(float(loss), expected, rtol=1e-6):
            return heads
    return candidates[0]


# ---------------------------------------------------------------- processes
def run_ranks(function: Callable[..., Any], world: int, *args: Any) -> list[Any]:
    """Call ``function(rank, *args)`` in ``world`` processes joined by gloo; return what each one returned.

    ``function`` must be defined at the top level of its file, which the processes import by path.
    """
    import torch.multiprocessing as mp

    path, name = function.__code__.co_filename, function.__name__
    with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
        probe.close()
        fork_context()  # the processes are forks of a server that has imported everything
        given = (world, port, folder, path, name, args)
        mp.start_processes(_rank_main, given, nprocs=world, start_method='forkserver')
        return [torch.load(f'{folder}/{rank}.pth', weights_only=False) for rank in range(world)]


def _rank_main(rank: int, world: int, port: int, folder: str, path: str, name: str, args: tuple) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group('gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=world)
    try:
        enter_scope()
        spec = importlib.util.spec_from_file_location('rank_worker', path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        torch.manual_seed(0)
        torch.save(getattr(module, name)(rank, *args), f'{folder}/{rank}.pth')
    finally:
        dist.destroy_process_group()
