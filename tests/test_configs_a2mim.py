"""The pre-training recipes of A2MIM and SimMIM are those of the specification's tables, number by number."""

import re
from pathlib import Path

import pytest
import torch
from config_cache import load_config
from mmengine.config import Config

from mmselfsup_graft.engine import LayerWiseLRConstructor
from mmselfsup_graft.registry import MODELS

CONFIGS = Path(__file__).parents[1] / 'configs'
STEP, COS = 'step', 'cosine'
FLOOR = 1e-5


def path_of(name: str) -> Path:
    (path,) = CONFIGS.glob(f'{name.split("_")[0].split("-")[0]}/{name}.py')
    return path


# token layer, replaces, gain; rate, schedule, epochs; GPUs, images, accumulated; clipping, drop path; least crop
A2MIM = {
    'a2mim_vit-small-p16_8xb256-steplr-800e_in1k': (0, 0, 0, 4e-4, STEP, 800, 8, 256, 1, 5.0, 0.1, 0.67),
    'a2mim_vit-base-p16_8xb128-steplr-800e_in1k': (0, 0, 0, 4e-4, STEP, 800, 8, 128, 2, 5.0, 0.1, 0.67),
    'a2mim_vit-large-p16_8xb128-steplr-800e_in1k': (0, 0, 0, 4e-4, STEP, 800, 8, 128, 2, 5.0, 0.1, 0.67),
    'a2mim-l0_resnet50_8xb256-coslr-100e_in1k': (0, 0, 0, 1.2e-3, COS, 100, 8, 256, 1, None, 0, 0.8),
    'a2mim-no-gain_resnet50_8xb256-coslr-100e_in1k': (3, 0, 0, 1.2e-3, COS, 100, 8, 256, 1, None, 0, 0.8),
    'a2mim_resnet50_8xb256-coslr-100e_in1k': (3, 0, 1e-6, 1.2e-3, COS, 100, 8, 256, 1, None, 0, 0.8),
    'a2mim_resnet50_8xb256-coslr-300e_in1k': (3, 0, 1e-6, 1.2e-3, COS, 300, 8, 256, 1, None, 0, 0.8),
    'a2mim_resnet101_8xb256-coslr-300e_in1k': (3, 0, 1e-6, 1.2e-3, COS, 300, 8, 256, 1, None, 0, 0.8),
    'a2mim_resnet152_8xb256-coslr-300e_in1k': (3, 0, 1e-6, 1.2e-3, COS, 300, 8, 256, 1, None, 0, 0.8),
    # ours: longer
    'a2mim_resnet101_8xb256-coslr-800e_in1k': (3, 0, 1e-6, 1.2e-3, COS, 800, 8, 256, 1, None, 0, 0.8),
    'a2mim_resnet152_8xb256-coslr-800e_in1k': (3, 0, 1e-6, 1.2e-3, COS, 800, 8, 256, 1, None, 0, 0.8),
    'a2mim_resnet200_8xb256-coslr-300e_in1k': (3, 0, 1e-6, 1.2e-3, COS, 300, 8, 256, 1, None, 0, 0.8),
    'a2mim_convnext-tiny_8xb256-amp-coslr-300e_in1k': (3, 0, 1e-6, 1.2e-3, COS, 300, 8, 256, 1, None, 0, 0.8),
    'a2mim_convnext-small_8xb256-amp-coslr-300e_in1k': (3, 0, 1e-6, 1.2e-3, COS, 300, 8, 256, 1, None, 0, 0.8),
    'a2mim_convnext-base_8xb256-amp-coslr-300e_in1k': (3, 0, 1e-6, 1.2e-3, COS, 300, 8, 256, 1, None, 0, 0.8),
    'a2mim_resnet50_4xb256-amp-coslr-800e_in100-192px': (3, 0, 1e-6, 1.2e-3, COS, 800, 4, 256, 2, None, 0, 0.8),
    'a2mim-l8_deit-small-p16_4xb256-coslr-800e_in100-192px': (8, 0, 0, 8e-4, COS, 800, 4, 256, 2, 5.0, 0.1, 0.67),
    'a2mim-mlp_deit-small-p16_4xb256-coslr-800e_in100-192px': (0, 0, 0, 8e-4, COS, 800, 4, 256, 2, 5.0, 0.1, 0.67),
    'a2mim_resnet50_4xb64-amp-coslr-1000e_cifar100-224px': (3, 0, 1e-6, 1.2e-3, COS, 1000, 4, 64, 2, None, 0, 0.8),
    'a2mim_vit-small-p16_4xb256-amp-coslr-1000e_cifar100-224px': (0, 0, 0, 8e-4, COS, 1000, 4, 256, 2, 5.0, 0.1, 0.8),
}
SIMMIM = {
    'simmim_vit-small-p16_8xb256-amp-steplr-800e_in1k': (0, 1, 0, 4e-4, STEP, 800, 8, 256, 1, 5.0, 0.1, 0.67),
    'simmim_vit-base-p16_8xb128-steplr-800e_in1k': (0, 1, 0, 4e-4, STEP, 800, 8, 128, 2, 5.0, 0.1, 0.67),
    'simmim-shared-bias_vit-base-p16_8xb128-steplr-800e_in1k': (0, 1, 0, 4e-4, STEP, 800, 8, 128, 2, 5.0, 0.1, 0.67),
    'simmim_vit-large-p16_8xb128-amp-steplr-800e_in1k': (0, 1, 0, 4e-4, STEP, 800, 8, 128, 2, 5.0, 0.1, 0.67),
    'simmim_resnet50_8xb256-amp-coslr-300e_in1k': (0, 1, 0, 8e-4, COS, 300, 8, 256, 1, None, 0, 0.67),
    'simmim_resnet101_8xb256-amp-coslr-300e_in1k': (0, 1, 0, 8e-4, COS, 300, 8, 256, 1, None, 0, 0.67),
    'simmim_resnet152_8xb256-amp-coslr-300e_in1k': (0, 1, 0, 8e-4, COS, 300, 8, 256, 1, None, 0, 0.67),
    'simmim_resnet200_8xb256-amp-coslr-300e_in1k': (0, 1, 0, 8e-4, COS, 300, 8, 256, 1, None, 0, 0.67),
    'simmim_convnext-tiny_8xb256-amp-coslr-300e_in1k': (0, 1, 0, 8e-4, COS, 300, 8, 256, 1, None, 0, 0.67),
    'simmim-visible_convnext-tiny_8xb256-amp-coslr-300e_in1k': (0, 0, 0, 8e-4, COS, 300, 8, 256, 1, None, 0, 0.67),
    'simmim-visible_convnext-small_8xb256-amp-coslr-300e_in1k': (0, 0, 0, 8e-4, COS, 300, 8, 256, 1, None, 0, 0.67),
    'simmim-visible_convnext-base_4xb256-amp-coslr-300e_in1k': (0, 0, 0, 8e-4, COS, 300, 4, 256, 2, None, 0, 0.67),
    'simmim_convnext-small_8xb256-amp-coslr-300e_in1k': (0, 1, 0, 8e-4, COS, 300, 8, 256, 1, None, 0, 0.67),
    'simmim_convnext-base_4xb256-amp-coslr-300e_in1k': (0, 1, 0, 8e-4, COS, 300, 4, 256, 2, None, 0, 0.67),
    'simmim_swin-base_8xb128-coslr-100e_in1k-192px': (0, 1, 0, 8e-4, COS, 100, 8, 128, 2, 5.0, 0, 0.67),
    'simmim_swin-base_8xb128-steplr-800e_in1k-192px': (0, 1, 0, 4e-4, STEP, 800, 8, 128, 2, 5.0, 0, 0.67),
}
RECIPES = {**A2MIM, **SIMMIM}
FLOORS = {  # where it is not 1e-5
    'simmim_swin-base_8xb128-coslr-100e_in1k-192px': 4e-5,
    'a2mim_vit-small-p16_4xb256-amp-coslr-1000e_cifar100-224px': 4e-5,
}
# backbone: rho, weight of the Fourier loss, focal, weight of visible pixels in it
HEADS = {
    'vit': ('l1', 0.1, True, 0.0),
    'deit': ('l1', 0.1, True, 0.0),
    'resnet50': ('focal_l1', 0.5, True, 1e-3),
    'resnet101': ('focal_l1', 0.1, False, 1e-3),
    'resnet152': ('focal_l1', 0.1, False, 1e-3),
    'resnet200': ('focal_l1', 0.0, False, 1e-3),
    'convnext': ('focal_l1', 0.0, True, 0.0),
}
# millions of parameters of the encoder at 224 px, token and gain included
SIZES = {
    'a2mim_vit-small-p16_8xb256-steplr-800e_in1k': 48.06,
    'a2mim_vit-base-p16_8xb128-steplr-800e_in1k': 85.91,
    'a2mim_vit-large-p16_8xb128-steplr-800e_in1k': 303.61,
    'a2mim-mlp_deit-small-p16_4xb256-coslr-800e_in100-192px': 21.72,
    'a2mim_resnet50_8xb256-coslr-300e_in1k': 23.51,
    'a2mim_resnet101_8xb256-coslr-300e_in1k': 42.50,
    'a2mim_resnet152_8xb256-coslr-300e_in1k': 58.15,
    'a2mim_resnet200_8xb256-coslr-300e_in1k': 62.63,
    'a2mim_convnext-tiny_8xb256-amp-coslr-300e_in1k': 27.82,
    'a2mim_convnext-small_8xb256-amp-coslr-300e_in1k': 49.46,
    'a2mim_convnext-base_8xb256-amp-coslr-300e_in1k': 87.57,
}


def test_every_large_config_is_in_the_tables():
    present = {path.stem for folder in ('a2mim', 'simmim') for path in (CONFIGS / folder).glob('*.py')}
    small = {name for name in present if re.search('fashion-mnist|photos|folder', name)}
    assert present - small == RECIPES.keys()


@pytest.mark.parametrize('name', RECIPES)
def test_pre_training_recipes(name):
    layer, replaces, gain, lr, schedule, epochs, gpus, images, accumulated, clip, drop_path, crop = RECIPES[name]
    cfg = load_config(path_of(name))
    backbone, wrapper = cfg.model.backbone, cfg.optim_wrapper
    assert (cfg.model.type, cfg.model.mask_patch, cfg.model.mask_ratio) == (
        'SimMIM' if name in SIMMIM else 'A2MIM',
        32,
        0.6,
    )
    assert backbone.get('mask_layer', 0) == layer
    assert (backbone.get('mask_replace', True), backbone.get('mask_gain', 0.0)) == (bool(replaces), gain)
    assert backbone.get('drop_path_rate', 0.0) == drop_path
    optimizer = wrapper.optimizer
    assert (optimizer.type, optimizer.lr, tuple(optimizer.betas), optimizer.weight_decay) == (
        'AdamW',
        lr,
        (0.9, 0.999),
        0.05,
    )
    assert (wrapper.get('clip_grad') or {}).get('max_norm') == clip
    assert wrapper.get('accumulative_counts', 1) == accumulated
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (images, gpus * images)
    (pictures,) = cfg.custom_hooks
    often = epochs == 100 or (epochs == 300 and re.search('resnet(101|152|200)', name))
    assert (pictures.type, pictures.interval) == ('ReconstructionHook', 10 if often else 25)
    transform = cfg.train_dataloader.dataset.pipeline[1]
    assert (transform.scale, transform.interpolation, transform.get('ratio')) == ((crop, 1.0), 'bilinear', None)
    assert cfg.train_cfg.max_epochs == epochs
    first = cfg.param_scheduler[0]
    if schedule == COS:
        assert (first.warmup, first.get('end', epochs), first.cosine_in_warmup) == (10, epochs, True)
        assert first.min_lr == FLOORS.get(name, FLOOR)
    else:
        assert (first.begin, first.end, first.start_factor, first.convert_to_iter_based) == (0, 10, 2e-6, True)
        assert (cfg.param_scheduler[1].milestones, cfg.param_scheduler[1].gamma) == ([700], 0.1)


@pytest.mark.parametrize('name', A2MIM)
def test_heads_of_a2mim(name):
    backbone = name.split('_')[1]
    (settings,) = [HEADS[key] for key in HEADS if re.match(rf'{key}(-|$)', backbone)]
    head = load_config(path_of(name)).model.head
    found = (head.mode, head.get('fft_weight', 0.0), head.get('fft_focal', True), head.get('fft_unmask_weight', 0.0))
    if 'cifar100' in name and backbone.startswith('vit'):
        settings = (settings[0], 0.0, *settings[2:])
    assert found == settings
    model = MODELS.build(head)
    assert (model.unmask_weight, model.fft_unmask_replace, model.fft_reweight) == (0.0, 'mixed', False)
    assert (model.error['alpha'], model.error['gamma'], model.error['activate']) == (0.2, 1.0, 'sigmoid')


def built(config: Config) -> torch.nn.Module:
    """A model; a ViT without memory, while mmpretrain's other backbones compute while they are built."""
    with torch.device('meta' if 'BEiT' in config.backbone.type else 'cpu'):
        return MODELS.build(config)


@pytest.mark.parametrize('name', SIZES)
def test_sizes_of_the_encoders(name):
    cfg = load_config(path_of(name))
    if 'BEiT' in cfg.model.backbone.type:
        cfg.model.backbone.img_size = 224  # tables grow with the image
    model = built(cfg.model)
    assert sum(p.numel() for p in model.backbone.parameters()) / 1e6 == pytest.approx(SIZES[name], abs=0.0051)


SMALL = sorted(
    path.stem for folder in ('a2mim', 'simmim') for path in (CONFIGS / folder).glob('*.py') if path.stem not in RECIPES
)


@pytest.mark.parametrize('name', ['simmim_resnet50_8xb256-amp-coslr-300e_in1k', *SIZES, *SMALL])
def test_what_is_decayed_and_what_learns_slowly(name):
    """No decay of norms, biases, tokens, gains, positions and layer scales; tokens of CNNs learn at a tenth."""
    cfg: Config = load_config(path_of(name))
    model = built(cfg.model)
    wrapper = {key: value for key, value in cfg.optim_wrapper.items() if key not in ('constructor', 'paramwise_cfg')}
    groups = LayerWiseLRConstructor(wrapper, cfg.optim_wrapper.paramwise_cfg).param_groups(model)
    group_of = {each: group for group in groups for each in group['param_names']}
    assert group_of.keys() == {each for each, parameter in model.named_parameters() if parameter.requires_grad}
    peak, transformer = cfg.optim_wrapper.optimizer.lr, bool(re.search(r'-p\d+_', name))
    for each, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        undecayed = parameter.ndim <= 1 or re.search('mask_|pos_embed|cls_token|position_bias', each)
        assert group_of[each]['weight_decay'] == (0.0 if undecayed else 0.05), each
        # the list of the ResNets' 300 epochs, which the longer runs share, has no rule for the gain
        whole = re.search('resnet.*(300e|800e)_in1k', name)
        slow = each.endswith('mask_token') or (each.endswith('mask_gamma') and not whole)
        factor = 0.1 if slow and not transformer else 1.0
        assert group_of[each]['lr'] == pytest.approx(factor * peak, rel=1e-12), each


def test_the_released_simmim_of_convnext_hides_nothing():
    torch.manual_seed(0)
    released = load_config(path_of('simmim-visible_convnext-tiny_8xb256-amp-coslr-300e_in1k')).model
    ours = load_config(path_of('simmim_convnext-tiny_8xb256-amp-coslr-300e_in1k')).model
    images, mask = torch.randn(1, 3, 64, 64), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    for config, hidden in ((released, False), (ours, True)):
        config.backbone.arch = dict(depths=[1, 1, 1, 1], channels=[4, 8, 8, 8])
        backbone = MODELS.build(config.backbone)
        backbone._dump_init_info = lambda *_: None
        backbone.init_weights()
        backbone.eval()
        assert torch.equal(backbone(images, mask=mask)[-1], backbone(images)[-1]) == (not hidden)
