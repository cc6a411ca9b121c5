"""Registers and layer scale in everything that trains or looks at a ViT: decoders, masks, targets, rates."""

from typing import Any

import plain_vit
import pytest
import torch
from helpers import build, mae_config, moco_config, tec_config

from mmselfsup_graft.engine.optimizers.layer_wise_lr import LayerWiseLRConstructor
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation import BlockFeature, encode_images

OPTIONS: dict[str, Any] = {'num_registers': 3, 'layer_scale_init_value': 0.5, 'qk_norm': True}


def vit(**kwargs: Any) -> Any:
    """A SelfSupViT with registers, all weights random, and its tensors under timm's names."""
    model = build(plain_vit.config(**OPTIONS, **kwargs))
    state = plain_vit.make(registers=3, scale=True, qk_norm=True)
    from mmselfsup_graft.checkpoints import to_encoder

    model.load_state_dict(to_encoder(state, 'file').state)
    model.eval()
    return model, state


@torch.no_grad()
def test_kept_patches_see_the_registers() -> None:
    """Masked input: registers stay, patches go; as if only those patches were there."""
    model, state = vit()
    x, keep = plain_vit.images(), torch.tensor([[3, 8, 1], [0, 15, 7]])
    full = {**state, 'pos_embed': state['pos_embed']}
    patches = (
        torch.nn.functional.conv2d(x, full['patch_embed.proj.weight'], full['patch_embed.proj.bias'], stride=4)
        .flatten(2)
        .transpose(1, 2)
        + full['pos_embed'][:, 1:]
    )
    for number in range(2):
        row = patches[number : number + 1, keep[number]]
        tokens = torch.cat([full['cls_token'] + full['pos_embed'][:, :1], full['register_tokens'], row], 1)
        for layer in model.layers:
            tokens = tokens + layer.attn(layer.ln1(tokens))
            tokens = layer.ffn(layer.ln2(tokens), identity=tokens)
        tokens = model.ln1(tokens)
        expected = torch.cat([tokens[:, :1], tokens[:, 4:]], 1)
        torch.testing.assert_close(model.encode(x, keep)[number : number + 1], expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(model(x, keep)[-1], model.encode(x, keep)[:, 0], rtol=0, atol=2e-5)


def trained(model: Any, inputs: Any) -> dict[str, Any]:
    model.init_weights()
    model.train()
    losses = model.loss(inputs)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(value.isfinite().all() for value in losses.values())
    return losses


def test_mae_trains_registers_and_its_decoder_never_sees_them() -> None:
    model = build(mae_config(plain_vit.config(**OPTIONS)))
    trained(model, plain_vit.images())
    assert model.backbone.register_tokens.grad.abs().sum() > 0
    assert model.backbone.layers[0].attn.gamma1.weight.grad.abs().sum() > 0
    noise = torch.rand(2, 16)
    with torch.no_grad():
        prediction, _ = model.forward_masked(plain_vit.images(), noise)
        assert prediction.shape == (2, 16, 16)


def test_moco_trains_registers() -> None:
    model = build(moco_config(plain_vit.config(**OPTIONS)))
    trained(model, [plain_vit.images(batch=4), plain_vit.images(batch=4).flip(0)])
    assert model.backbone.register_tokens.grad.abs().sum() > 0


@pytest.mark.parametrize('masked', [{'mask_layer': 0}, {'mask_layer': 2}])
@torch.no_grad()
def test_mask_tokens_leave_registers_alone(masked: dict[str, int]) -> None:
    model = build({**plain_vit.config(**OPTIONS, out_type='featmap'), 'type': 'MaskedViT', **masked})
    model.init_weights()
    torch.nn.init.normal_(model.register_tokens)
    model.eval()
    mask = torch.zeros(2, 4, 4)
    mask[:, 0, :2] = 1
    seen: list[torch.Tensor] = []
    model.layers[max(0, masked['mask_layer'] - 1)].ln1.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    x = plain_vit.images()
    model(x)
    model(x, mask=mask)
    changed = (seen[0] != seen[1]).any(-1)
    assert changed[:, :4].sum() == 0
    assert changed[:, 4:].nonzero()[:, 1].unique().tolist() == [0, 1]


@torch.no_grad()
def test_tec_takes_targets_of_patches_alone() -> None:
    model = build(tec_config(plain_vit.config(**OPTIONS), base=OPTIONS, topk=4))
    teacher, state = model.base_model, plain_vit.make(registers=3, scale=True, qk_norm=True)
    from mmselfsup_graft.checkpoints import to_encoder

    kept = {n: v for n, v in to_encoder(state, 'file').state.items() if not n.startswith('ln1.')}
    teacher.load_state_dict(kept)
    x = plain_vit.images()
    targets = teacher.targets(x)
    assert targets.feature.shape == (2, 16, 64)
    assert int(targets.rows.max()) < 16
    assert targets.attention.shape == (2, 5, 4, 16)
    # the mean of the last two blocks, from the block outputs themselves
    outputs: list[torch.Tensor] = []
    for layer in teacher.layers:
        layer.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    teacher.encode(x)
    torch.testing.assert_close(targets.feature, (outputs[-1] + outputs[-2])[:, 4:] / 2, rtol=0, atol=2e-5)
    tokens = outputs[-2]
    last = teacher.layers[-1]
    q, k, _ = last.attn.qkv(last.ln1(tokens)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
    q, k = last.attn.q_norm(q), last.attn.k_norm(k)
    logits = q @ k.transpose(-2, -1) / 4.0
    torch.testing.assert_close(targets.attention[:, 0], logits[:, :, 0, 4:], rtol=0, atol=2e-5)
    row = targets.rows[0, 0]
    torch.testing.assert_close(targets.attention[0, 1], logits[0, :, 4 + row, 4:], rtol=0, atol=2e-5)


def test_tec_trains_with_registers() -> None:
    model = build(tec_config(plain_vit.config(**OPTIONS), base=OPTIONS, topk=4))
    model._base.is_loaded = True
    trained(model, plain_vit.images())
    assert model.backbone.register_tokens.grad.abs().sum() > 0


@torch.no_grad()
def test_features_leave_registers_out() -> None:
    model, state = vit()
    x = plain_vit.images()
    tokens = plain_vit.tokens(state, x)
    found = encode_images(model, x, ('class_token', 'patch_mean'))
    torch.testing.assert_close(found['class_token'], tokens[:, 0], rtol=0, atol=2e-5)
    torch.testing.assert_close(found['patch_mean'], tokens[:, 4:].mean(1), rtol=0, atol=2e-5)
    block = BlockFeature(model, 3)
    before = block.block_output(x)
    assert before.shape == (2, 20, 64)
    mean = encode_images(block, x, ('patch_mean',))['patch_mean']
    torch.testing.assert_close(mean, before[:, 4:].mean(1), rtol=0, atol=2e-5)


def test_rates_and_depth() -> None:
    model = build(mae_config(plain_vit.config(**OPTIONS)))
    assert model.depth.layer_id('register_tokens') == 0
    assert model.depth.layer_id('layers.1.attn.gamma1.weight') == 2
    assert model.depth.layer_id('layers.1.attn.q_norm.weight') == 2
    options = dict(layer_wise_decay_ratio=0.5)
    groups = LayerWiseLRConstructor(dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1)), options).param_groups(
        model
    )
    rates = {name: group['lr'] for group in groups for name in group['param_names']}
    assert rates['backbone.register_tokens'] == rates['backbone.cls_token'] == 0.5**4
    assert rates['backbone.layers.2.ffn.gamma2.weight'] == 0.5


def test_options_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match='num_registers=-1'):
        build(plain_vit.config(num_registers=-1))
    with pytest.raises(ConfigError, match='square grid of patches, got 2 x 8'):
        build({**mae_config(plain_vit.config()), 'backbone': plain_vit.config((2, 8))})
