"""TEC beside its published numbers (tests/test_golden/test_tec.py): what belongs to it, ignores, and refuses."""

import copy
from pathlib import Path
from typing import Any

import pytest
import reference.tec as reference_tec
import torch
from helpers import build, mae_config, moco_config, tec_config, vit_config
from mmengine.model import MMDistributedDataParallel
from torch import nn

from mmselfsup_graft.checkpoints import VIT_TIMM, convert, depth_of, graft_weights, parse_graft, save_atomically
from mmselfsup_graft.engine import LayerWiseLRConstructor
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.models.losses import attention_row_loss, hidden_feature_loss

IMAGES = torch.randn(2, 3, 16, 16)


def saved(model: nn.Module, path: Path) -> str:
    save_atomically({'state_dict': model.state_dict(), 'meta': {}}, path)
    return str(path)


@pytest.fixture
def base_file(tmp_path) -> str:
    """A checkpoint of a MAE run."""
    model = build(mae_config())
    model.init_weights()
    return saved(model, tmp_path / 'mae.pth')


@pytest.fixture
def model(base_file) -> Any:
    tec = build(tec_config(checkpoint=base_file))
    tec.init_weights()
    return tec.train()


# ---------------------------------------------------------------- the base model is nobody's
def test_the_base_model_is_in_no_state_and_in_no_optimiser(model, base_file):
    assert not [name for name in model.state_dict() if 'base' in name]
    own = {id(parameter) for parameter in model.base_model.parameters()}
    assert own
    assert not own & {id(parameter) for parameter in model.parameters()}
    wrapper = LayerWiseLRConstructor(dict(optimizer=dict(type='AdamW', lr=1e-3)), dict(no_decay_1d=True))(model)
    assert not own & {id(p) for group in wrapper.optimizer.param_groups for p in group['params']}
    assert not any(parameter.requires_grad for parameter in model.base_model.parameters())
    assert not any(module.training for module in model.base_model.modules())
    assert 'base_model' not in dict(model.named_modules())


def test_the_base_model_has_the_weights_of_its_file(model, base_file):
    file = torch.load(base_file, weights_only=True)['state_dict']
    for name, value in model.base_model.state_dict().items():
        assert torch.equal(value, file[f'backbone.{name}'])


def test_the_base_model_goes_where_the_model_goes(model):
    model.double()
    assert {p.dtype for p in model.base_model.parameters()} == {torch.float64}
    model.to('meta')
    assert {p.device.type for p in model.base_model.parameters()} == {'meta'}


def test_a_loss_changes_nothing_in_the_base_model(model):
    before = {name: value.clone() for name, value in model.base_model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    sum(model.loss(IMAGES).values()).backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.base_model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.base_model.parameters())


@pytest.mark.parametrize('topk', [3, None])
@pytest.mark.parametrize('input_adaptor', [True, False])
def test_gradient_reaches_every_trainable_parameter(base_file, topk, input_adaptor):
    config = tec_config({**vit_config(), 'input_adaptor': input_adaptor}, checkpoint=base_file, topk=topk)
    model = build(config)
    model.init_weights()
    losses = model.loss(IMAGES)
    assert set(losses) == {'loss_feature'} | ({'loss_attention'} if topk else set())
    sum(losses.values()).backward()
    still = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not still


def test_bfloat16_autocast_agrees_with_float32(model):
    noise = torch.rand(2, 16)
    with torch.no_grad():
        exact = model.loss(IMAGES, noise=noise)
        with torch.autocast('cpu', torch.bfloat16):
            half = model.loss(IMAGES, noise=noise)
    for name, value in exact.items():
        assert half[name].dtype == torch.float32
        assert half[name] == pytest.approx(float(value), rel=0.02)


# ---------------------------------------------------------------- losses
def test_order_of_the_rows_does_not_matter():
    logits, target = torch.randn(2, 4, 3, 9), torch.randn(2, 4, 3, 9)
    order = torch.tensor([2, 0, 3, 1])
    one = attention_row_loss(logits, target, 1.4)
    assert torch.allclose(one, attention_row_loss(logits[:, order], target[:, order], 1.4), rtol=1e-6)


def test_temperature_is_the_targets_alone():
    logits, target = torch.randn(1, 1, 1, 5).double(), torch.randn(1, 1, 1, 5).double()
    wanted, given = (target / 2).softmax(-1), logits.softmax(-1)
    assert torch.allclose(attention_row_loss(logits, target, 2.0), -(wanted * given.log()).sum())


def test_the_target_is_normalized_over_all_patches():
    prediction, target = torch.randn(2, 3, 4), torch.randn(2, 6, 4)
    hidden = torch.tensor([[0, 2, 5], [1, 3, 2]])
    mask = torch.zeros(2, 6).scatter(1, hidden, 1.0)
    whole = torch.randn(2, 6, 4).scatter(1, hidden[..., None].expand(-1, -1, 4), prediction)
    expected = reference_tec.feature_loss(whole, target, mask)
    assert torch.allclose(hidden_feature_loss(prediction, target, hidden), expected)
    # scale and offset of a channel of the target are taken out
    scaled = hidden_feature_loss(prediction, 100 * target + 7, hidden)
    assert torch.allclose(scaled, expected, rtol=1e-3)


def test_predictions_follow_the_rows(model):
    """Asking for other rows permutes the predicted attention likewise."""
    targets = model.base_model.targets(IMAGES)
    order = torch.tensor([2, 0, 1])
    mask = model.draw_mask(IMAGES)
    latent = model.backbone.encode_blocks(IMAGES, mask.keep)
    one = model.neck(latent, mask, targets.rows)
    other = model.neck(latent, mask, targets.rows[:, order])
    assert torch.equal(one.attention[:, 0], other.attention[:, 0])
    assert torch.equal(one.attention[:, 1:][:, order], other.attention[:, 1:])


# ---------------------------------------------------------------- where the encoder goes
def test_merged_encoder_is_a_plain_vit_with_the_same_features(model, tmp_path):
    file = saved(model, tmp_path / 'tec.pth')
    encoder = model.backbone
    plain = build(vit_config())
    weights, report = graft_weights(parse_graft([{'checkpoint': file}]), plain.state_dict(), depth_of(plain))
    plain.load_state_dict(weights)
    plain.train(False)
    encoder.train(False)
    with torch.no_grad():
        assert torch.equal(plain.encode(IMAGES), encoder.encode(IMAGES))
        assert torch.equal(plain(IMAGES)[0], encoder(IMAGES)[0])
    assert not report.fresh
    # and so through the converter, for another library
    timm = convert({'state_dict': model.state_dict()}, 'file', 'timm').state
    assert torch.equal(timm['cls_token'], plain.cls_token)
    assert {VIT_TIMM.to_canonical(name) for name in timm} == set(plain.state_dict())


def test_all_outputs_see_the_made_class_token(model):
    """Not only the class-token path: maps and pooled patches of a TECViT are those of the merged ViT."""
    state = convert({'state_dict': model.state_dict()}, 'file', 'mmpretrain').state
    for out_type in ('featmap', 'raw'):
        encoder = build({**vit_config(), 'type': 'TECViT', 'out_type': out_type})
        encoder.load_state_dict(model.backbone.state_dict())
        plain = build({**vit_config(), 'out_type': out_type})
        plain.load_state_dict(state)
        for each in (encoder, plain):
            each.eval()
        with torch.no_grad():
            assert torch.equal(encoder(IMAGES)[-1], plain(IMAGES)[-1])


def test_it_can_be_grafted_and_be_the_next_base_model(model, tmp_path):
    file = saved(model, tmp_path / 'tec.pth')
    contrastive = build(moco_config(graft=[{'checkpoint': file}]))
    contrastive.init_weights()
    assert torch.equal(contrastive.backbone.cls_token, model.backbone.input_token())
    again = build(tec_config(checkpoint=file))
    again.init_weights()
    assert torch.equal(again.base_model.cls_token, model.backbone.input_token())
    going_on = build(tec_config(checkpoint=file, graft=[{'checkpoint': file}]))
    going_on.init_weights()
    assert torch.equal(going_on.backbone.cls_token, model.backbone.cls_token)  # with the MLP behind it
    assert torch.equal(going_on.backbone.cls_token_mlp.fc1.weight, model.backbone.cls_token_mlp.fc1.weight)


def test_a_plain_vit_does_not_fill_the_input_adaptor(base_file):
    """A fresh MLP behind a trained class token would be noise."""
    model = build(tec_config(checkpoint=base_file, graft=[{'checkpoint': base_file}]))
    with pytest.raises(CheckpointError, match=r'ordinary class token.*set model\.backbone\.input_adaptor=False'):
        model.init_weights()


# ---------------------------------------------------------------- base models of other sizes and formats
def test_a_wider_base_model(tmp_path):
    wide = vit_config(width=24, heads=3)
    mae = build(mae_config(wide))
    mae.init_weights()
    model = build(tec_config(base={'arch': wide['arch']}, checkpoint=saved(mae, tmp_path / 'wide.pth')))
    model.init_weights()
    targets = model.base_model.targets(IMAGES)
    mask = model.draw_mask(IMAGES)
    prediction = model.neck(model.backbone.encode_blocks(IMAGES, mask.keep), mask, targets.rows)
    assert targets.feature.shape == (2, 16, 24)
    assert prediction.feature.shape == (2, 12, 24)
    assert prediction.attention.shape == targets.attention.shape == (2, 4, 3, 16)


def test_the_teacher_of_a_full_ibot_file(tmp_path):
    state = {VIT_TIMM.from_canonical(n): v for n, v in build(vit_config()).state_dict().items()}
    teacher = {f'backbone.{name}': value for name, value in state.items()}
    student = {f'module.{name}': value + 1 for name, value in teacher.items()}
    save_atomically({'student': student, 'teacher': teacher, 'epoch': 1}, tmp_path / 'ibot.pth')
    for source, shift in (
        (str(tmp_path / 'ibot.pth'), 0),
        ({'checkpoint': str(tmp_path / 'ibot.pth'), 'branch': 'student'}, 1),
    ):
        model = build(tec_config(checkpoint=source))
        model.init_weights()
        assert torch.equal(model.base_model.cls_token, state['cls_token'] + shift)


# ---------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(topk=17), r'topk=17 is outside 1\.\.16'),
        (dict(topk=0), 'topk=0'),
        (dict(base=dict(last_layers=4)), r'last_layers=4 is outside 1\.\.3'),
        (dict(neck=dict(num_adap=2)), 'an encoder of 3 blocks cannot be cut into 2 equal chunks; set num_adap'),
        (dict(backbone=vit_config(depth=7)), 'an encoder of 7 blocks cannot be cut into 2'),
        (
            dict(base=dict(patch_size=8)),
            'images of 16 x 16 into 2 x 2 patches, the new one images of 16 x 16 into 4 x 4',
        ),
        (dict(base=dict(img_size=32, patch_size=8)), 'the base model cuts images of 32 x 32 into 4 x 4 patches'),
        (dict(neck=dict(target_num_heads=1)), r'neck\.target_num_heads=1, but .* must be 2; leave it out'),
        (dict(neck=dict(target_dim=8)), r'neck\.target_dim=8'),
        (dict(neck=dict(depth=6)), r'neck\.depth=6, but .* must be 3'),
        (dict(neck=dict(predict_attention=False)), r'neck\.predict_attention=False, but .* must be True'),
        (dict(topk=None, neck=dict(predict_attention=True)), r'neck\.predict_attention=True'),
        (dict(head=dict(type='TECHead', attention_weight=-1.0)), 'must not be negative'),
        (dict(checkpoint=dict(checkpoint='a.pth', layers=(0, 2))), 'base_checkpoint takes no layers'),
        (dict(checkpoint=['a.pth']), 'base_checkpoint takes a file'),
        (dict(mask_ratio=0.99), 'leaves 0 of 16 patches'),
        (dict(head=dict(type='TECHead', tau=0.0)), 'tau must be positive'),
        (dict(base=dict(type='SelfSupViT')), 'base_model must be a TargetViT, got SelfSupViT'),
    ],
)
def test_impossible_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        build(tec_config(**options))


def test_files_that_are_no_base_model(base_file, tmp_path):
    without = build(tec_config())
    without.init_weights()  # to use its encoder
    with pytest.raises(ConfigError, match=r'no base model; set model\.base_checkpoint'):
        without.loss(IMAGES)
    with pytest.raises(ConfigError, match='no base model'):
        build(tec_config(checkpoint=base_file)).loss(IMAGES)  # before it was read
    with pytest.raises(
        CheckpointError, match=r'TEC, base model: .*does not exist.*model\.base_checkpoint names the file'
    ):
        build(tec_config(checkpoint='absent.pth')).init_weights()
    wide = build(tec_config(base=dict(arch=vit_config(width=24, heads=3)['arch']), checkpoint=base_file))
    with pytest.raises(CheckpointError, match='cls_token'):
        wide.init_weights()
    deep = build(tec_config(base=dict(arch=vit_config(depth=4)['arch']), checkpoint=base_file))
    with pytest.raises(CheckpointError, match='3 blocks, expected 4'):
        deep.init_weights()


def test_a_backbone_that_shows_no_blocks(base_file):
    config = tec_config(checkpoint=base_file)
    config['backbone'] = vit_config()
    with pytest.raises(ConfigError, match='backbone must be a TECViT, got SelfSupViT'):
        build(config)


def test_images_of_another_size(model):
    with pytest.raises(ConfigError, match='images of 20 x 16 for a model of 16 x 16'):
        model.loss(torch.randn(1, 3, 20, 16))


def test_a_copy_has_a_base_model_of_its_own(model):
    other = copy.deepcopy(model)
    noise = torch.rand(2, 16)
    assert other.base_model is not model.base_model
    one, two = model.loss(IMAGES, noise=noise), other.loss(IMAGES, noise=noise)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_it_is_wrapped_without_its_base_model(model):
    torch.distributed.init_process_group('gloo', store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = MMDistributedDataParallel(model, device_ids=None)
        assert len(list(wrapped.parameters())) == len(list(model.parameters()))
        sum(wrapped(IMAGES, mode='loss').values()).backward()
        assert all(parameter.grad is None for parameter in model.base_model.parameters())
    finally:
        torch.distributed.destroy_process_group()
