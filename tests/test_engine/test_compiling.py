"""Blocks are compiled one by one: without a break, with equal values, and with the names that they had."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build, mae_config, moco_config, run_ranks, tec_config, vit_config
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from test_models.test_a2mim import BACKBONES as MASKED
from test_tools.tiny_runs import call_tool, fresh_name, load, tiny_config, write_config
from torch import nn
from torch._dynamo.testing import CompileCounter

from mmselfsup_graft.engine.execution.compiling import compile_blocks
from mmselfsup_graft.engine.execution.recompute import checkpoint_activations
from mmselfsup_graft.errors import ConfigError

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
ENCODERS: dict[str, tuple[dict[str, Any], int]] = {
    'SelfSupViT': (vit_config(), 3),
    'TECViT': ({**vit_config(), 'type': 'TECViT'}, 3),
    'MaskedViT': ({**vit_config(), 'type': 'MaskedViT', 'out_type': 'featmap'}, 3),
    'SelfSupBEiT': (dict(type='SelfSupBEiT', arch=ARCH, img_size=64, patch_size=16), 3),
    'SelfSupResNet': (dict(type='SelfSupResNet', depth=50, stem_channels=2, base_channels=2), 16),
    **{
        name: (config, {'resnet': 8, 'convnext': 4, 'vit': 3, 'swin': 5}[name])
        for name, (config, _, _) in MASKED.items()
    },
}


@pytest.fixture(autouse=True)
def forget() -> Any:
    """Compiled code of another test is not used."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def passes(model: nn.Module, *inputs: Any) -> list[torch.Tensor]:
    """Outputs and gradients of a training pass, and outputs of an evaluation."""
    torch.manual_seed(0)
    outputs = model(*inputs)
    sum(each.square().sum() for each in outputs).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    model.eval()
    with torch.no_grad():
        return [*outputs, *gradients, *model(*inputs)]


@pytest.mark.parametrize('name', ENCODERS)
def test_encoders_compile_without_a_break(name: str) -> None:
    config, blocks = ENCODERS[name]
    plain = build(config)
    plain.init_weights()
    compiled = deepcopy(plain)
    assert len(compile_blocks(compiled, dict(backend='eager'))) == blocks
    assert list(compiled.state_dict()) == list(plain.state_dict())
    images = torch.randn(2, 3, *[config.get('img_size', 64)] * 2)
    for ours, theirs in zip(passes(compiled, images), passes(plain, images), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def losses(model: Any, inputs: Any) -> list[float]:
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        model.zero_grad()
        loss = sum(value for name, value in model.loss(inputs).items() if 'loss' in name)
        loss.backward()
        found += [loss.item(), sum(p.grad.double().norm().item() for p in model.parameters() if p.grad is not None)]
    return found


@pytest.mark.parametrize('kind', ['MAE', 'MoCoV3', 'TEC'])
def test_algorithms_have_the_same_losses(kind: str, tmp_path: Path) -> None:
    backbone = vit_config(depth=2, drop_path_rate=0.2)
    if kind == 'TEC':
        torch.save({'state_dict': build(mae_config(backbone)).state_dict()}, tmp_path / 'base.pth')
        config = tec_config(backbone, checkpoint=str(tmp_path / 'base.pth'))
    else:
        config = mae_config(backbone) if kind == 'MAE' else moco_config(backbone)
    plain = build(config)
    plain.init_weights()
    plain.double().train()
    compiled = deepcopy(plain)
    names = compile_blocks(compiled, dict(backend='aot_eager'))
    parts = {name.split('.layers.')[0].split('.blocks.')[0].split('.decoder_blocks.')[0] for name in names}
    assert parts == {
        'MAE': {'backbone', 'neck'}, 'MoCoV3': {'backbone', 'momentum_encoder.backbone'},
        'TEC': {'backbone', 'neck', 'base_model'},
    }[kind]  # fmt: skip
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    inputs = [images, images.flip(3)] if kind == 'MoCoV3' else images
    assert losses(compiled, inputs) == pytest.approx(losses(plain, inputs), rel=1e-9)


# ---------------------------------------------------------------- sharing, surroundings
def test_blocks_that_are_alike_are_compiled_once() -> None:
    counter = CompileCounter()
    vit = build(vit_config(depth=12, drop_path_rate=0.0))
    compile_blocks(vit, dict(backend=counter))
    images = torch.randn(2, 3, 16, 16)
    for _ in range(3):
        vit.encode(images)
    assert counter.frame_count == 1
    vit.encode(images, torch.tensor([[0, 1], [2, 3]]))
    assert counter.frame_count == 2, 'another number of tokens'
    vit(images)
    assert counter.frame_count == 3, 'the last block for the class token alone'
    with torch.autocast('cpu', dtype=torch.bfloat16):
        vit.encode(images)
        vit.encode(images)
    assert counter.frame_count == 4, 'another precision'
    vit.eval()
    with torch.no_grad():
        vit.encode(images)
    assert counter.frame_count <= 6


def test_deeper_networks_with_drop_path_stay_within_the_cache() -> None:
    counter = CompileCounter()
    vit = build(vit_config(depth=10, drop_path_rate=0.3))
    compile_blocks(vit, dict(backend=counter))
    for _ in range(2):
        vit(torch.randn(2, 3, 16, 16))
    assert 8 < counter.frame_count <= 10, 'one per rate, beyond the default of 8'


def test_hooks_run_around_compiled_blocks_and_copies_are_plain() -> None:
    counter, seen = CompileCounter(), []
    vit = build(vit_config(depth=3, drop_path_rate=0.0))
    compile_blocks(vit, dict(backend=counter))
    copied, images = deepcopy(vit), torch.randn(2, 3, 16, 16)
    assert torch.allclose(copied.encode(images), vit.encode(images), rtol=1e-5, atol=1e-6)
    assert counter.frame_count == 1
    assert all(layer.forward.__self__ is layer for layer in copied.layers)
    handle = vit.layers[1].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    vit.encode(images)
    handle.remove()
    vit.encode(images)
    assert len(seen) == 1
    assert counter.frame_count == 1


def test_recomputed_blocks_are_compiled_inside() -> None:
    counter = CompileCounter()
    plain = build(vit_config(depth=3, drop_path_rate=0.0))
    plain.init_weights()
    compiled = deepcopy(plain)
    compile_blocks(compiled, dict(backend=counter))
    checkpoint_activations(compiled)
    images = torch.randn(2, 3, 16, 16)
    for ours, theirs in zip(passes(compiled, images), passes(plain, images), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert counter.frame_count > 0
    assert passes(deepcopy(compiled), images)[0].shape == passes(plain, images)[0].shape


def _gradients_of_ddp(rank: int) -> list[dict[str, torch.Tensor]]:
    plain = build(mae_config(vit_config()))
    plain.init_weights()
    images, found = torch.randn(2, 2, 3, 16, 16)[rank], []
    for compiled in (False, True):
        model = nn.parallel.DistributedDataParallel(deepcopy(plain), gradient_as_bucket_view=True)
        if compiled:
            compile_blocks(model, dict(backend='aot_eager'))
        torch.manual_seed(rank)
        model(images, mode='loss')['loss'].backward()
        found.append({name: p.grad.clone() for name, p in model.module.named_parameters() if p.grad is not None})
    return found


def test_compiled_blocks_inside_ddp() -> None:
    (plain, compiled), (_, other) = run_ranks(_gradients_of_ddp, 2)
    assert compiled.keys() == plain.keys()
    for name, gradient in compiled.items():
        assert torch.equal(gradient, other[name]), 'averaged over the processes'
        assert torch.allclose(gradient, plain[name], rtol=1e-4, atol=1e-6), name


# ---------------------------------------------------------------- mistakes, the tool
class Breaking(TransformerEncoderLayer):
    """Looks at a value in the middle of its pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum().item() > 0 else x


def test_a_block_that_breaks_the_graph_is_named() -> None:
    model = nn.ModuleDict({'backbone': Breaking(8, 2, 16)})
    compile_blocks(model, dict(backend='eager'))
    with pytest.raises(ConfigError, match=r'backbone \(Breaking\) cannot be compiled to one graph: .*fullgraph=False'):
        model['backbone'](torch.randn(1, 3, 8))


def _without_compiler(graph: Any, inputs: Any) -> Any:
    raise FileNotFoundError('g++')


def test_a_back_end_that_fails_is_no_broken_graph() -> None:
    vit = build(vit_config(depth=1))
    compile_blocks(vit, dict(backend=_without_compiler))
    with pytest.raises(ConfigError, match=r'layers\.0 \(EncoderBlock\): .*g\+\+.*Install a compiler') as error:
        vit(torch.randn(1, 3, 16, 16))
    assert 'back-end failed' in str(error.value)
    assert 'graph' not in str(error.value)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="unknown key 'modus'; it takes backend"):
        compile_blocks(build(vit_config()), dict(modus='max-autotune'))
    with pytest.raises(ConfigError, match='Linear has no block to compile'):
        compile_blocks(nn.Linear(1, 1))


def test_a_config_is_trained_compiled(tmp_path: Path) -> None:
    config = write_config(tmp_path / 'tiny.py', tiny_config('lgp', epochs=1))
    for name, options in {'plain': [], 'compiled': ['--cfg-options', 'compile.backend=eager']}.items():
        outcome = call_tool('train', config, '--work-dir', tmp_path / name, *fresh_name(), *options)
        assert outcome.code == 0, outcome.err[-2000:]
        assert ('6 blocks are compiled' in outcome.out + outcome.err) == (name == 'compiled')
    states = [load(tmp_path / name / 'epoch_1.pth')['state_dict'] for name in ('plain', 'compiled')]
    assert list(states[0]) == list(states[1])
    for name, value in states[0].items():
        assert torch.allclose(states[1][name].double(), value.double(), rtol=1e-3, atol=1e-4), name
    wrong = call_tool('train', config, '--work-dir', tmp_path / 'x', '--cfg-options', 'compile=often')
    assert 'compile takes True, False or a dict' in wrong.error()
