"""Models of timm as backbones: every family with every objective it takes, and plain timm as the reference."""

from pathlib import Path

import pytest
import timm
import timm_families
import torch
from helpers import build, tec_config, vit_config

from mmselfsup_graft.checkpoints import depth_of, read_encoder, traits_of
from mmselfsup_graft.engine.optimizers import LayerWiseLRConstructor
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.evaluation.backbones import BlockFeature, load_backbone
from mmselfsup_graft.evaluation.encoders import Encoder
from mmselfsup_graft.evaluation.pooling import encode_images
from mmselfsup_graft.export.after_training import next_steps
from mmselfsup_graft.export.convert_file import ConvertOptions, convert_file

PAGE = Path(__file__).parents[2] / 'docs' / 'transfer.md'
FAMILIES = list(timm_families.FAMILIES)
CELLS = [(f, o) for f in FAMILIES for o in timm_families.OBJECTIVES if o != 'MAE']
DROPPING = ['ViT', 'DeiT III', 'DINOv2', 'DINOv2, registers', 'DINOv3', 'EVA-02', 'hybrid ViT']
CELLS += [(family, 'MAE') for family in DROPPING]


def plain(family: str) -> torch.nn.Module:
    name, options = timm_families.FAMILIES[family]
    return timm.create_model(name, num_classes=0, **options).eval()


def images(count: int = 2) -> torch.Tensor:
    side = timm_families.SIZE
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3))


def test_the_table_of_the_page_is_what_the_cells_step():
    assert timm_families.table() in PAGE.read_text(encoding='utf-8')
    assert sorted(CELLS) == sorted(
        (f, o) for f in FAMILIES for o in timm_families.OBJECTIVES if timm_families.takes(f, o)
    )


@pytest.mark.parametrize('family', FAMILIES)
def test_forward_is_that_of_timm(family):
    ours, theirs = build(timm_families.backbone(family)).eval(), plain(family)
    inner = {name.removeprefix('timm_model.'): value for name, value in ours.state_dict().items()}
    theirs.load_state_dict(inner)
    with torch.no_grad():
        expected, features = theirs(images()), theirs.forward_features(images())
        torch.testing.assert_close(ours(images())[0], expected)
        ours.out_type = 'featmap'
        feature = ours(images())[0]
    assert feature.dim() == 4
    assert feature.shape[1] == theirs.num_features
    last = features[:, -feature[0, 0].numel() :] if features.dim() == 3 else features
    torch.testing.assert_close(feature.sum((1, 2, 3)), last.flatten(1).sum(1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('family', FAMILIES)
def test_every_tensor_has_a_layer(family):
    backbone = build(timm_families.backbone(family))
    depth = depth_of(backbone)
    layers = [depth.layer_id(name) for name, _ in backbone.named_parameters()]
    assert set(range(depth.num_blocks + 1)) <= set(layers)
    late = [n for n, _ in backbone.named_parameters() if depth.layer_id(n) == depth.num_blocks + 1]
    assert all(any(word in name for word in ('norm', 'head', 'bn2', 'fc')) for name in late)
    buffers = [n for n, _ in backbone.named_buffers() if 'running_' in n]
    weights = {n.rpartition('.')[0]: depth.layer_id(n) for n, _ in backbone.named_parameters()}
    assert all(depth.layer_id(name) == weights[name.rpartition('.')[0]] for name in buffers)


@pytest.mark.parametrize(('family', 'objective'), CELLS)
def test_a_step_with_frozen_layers_and_rates_per_layer(family, objective):
    model = timm_families.model_of(family, objective, frozen_layers=1).train()
    config = {'optimizer': {'type': 'SGD', 'lr': 1.0}}
    groups = LayerWiseLRConstructor(config, {'layer_wise_decay_ratio': 0.5}).param_groups(model)
    scale = {layer: group['lr_scale'] for group in groups for layer in group['layer_ids']}
    top = model.depth.num_blocks + 1
    assert all(scale[layer] == 0.5 ** (top - layer) for layer in scale)
    token = {0} if hasattr(model.backbone, 'mask_token') else set()  # which is never frozen
    assert set(scale) == token | set(range(2, top + 1))
    assert bool(timm_families.step(objective, model).isfinite())
    for name, parameter in model.backbone.named_parameters():
        if model.depth.layer_id(name) in (0, 1) and name not in ('mask_token', 'mask_gamma'):
            assert parameter.grad is None, name
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for _, n, p in model.encoder_parameters() if n == 2)
    if token:
        assert bool(model.backbone.mask_token.grad.abs().sum() > 0)


@pytest.mark.parametrize('objective', ['SimMIM', 'A2MIM'])
@pytest.mark.parametrize('family', FAMILIES)
def test_only_masked_places_change(family, objective):
    """At the place of the token; every later layer may mix places."""
    model = timm_families.model_of(family, objective).eval()
    backbone, seen = model.backbone, []
    backbone.mask_token.data.fill_(7.0)
    inner = backbone.mask_features
    backbone.mask_features = lambda z, mask: seen.append((z, inner(z, mask))) or seen[-1][1]
    mask = torch.zeros(1, 2, 2)
    mask[0, 0, 1] = 1
    with torch.no_grad():
        backbone(images(1), mask=mask)
    ((before, after),) = seen
    changed = (before != after).float()
    assert 0.15 <= float(changed.mean()) <= 0.25  # class token and registers stay
    if before.dim() == 4:
        channel = changed.mean(1 if not backbone._at.channels_last else 3)[0]  # [H, W]
        rows, columns = channel.shape
        expected = torch.zeros(rows, columns)
        expected[: rows // 2, columns // 2 :] = 1
        torch.testing.assert_close(channel, expected)


@pytest.mark.parametrize('family', FAMILIES)
def test_grafts_of_a_masked_and_a_contrastive_run(family, tmp_path):
    lower, upper = (timm_families.model_of(family, name, seed) for name, seed in (('A2MIM', 1), ('MoCo v3', 2)))
    files = [timm_families.save_run(model, tmp_path / f'{n}.pth') for n, model in enumerate((lower, upper))]
    depth = lower.depth.num_blocks
    half = depth // 2
    for objective in ('MoCo v3', 'SimMIM'):
        graft = [dict(checkpoint=files[0], layers=(0, half)), dict(checkpoint=files[1], layers=(half, depth))]
        model = timm_families.model_of(family, objective, 3, graft=graft)
        for name, value in model.backbone.state_dict().items():
            if name not in ('mask_token', 'mask_gamma') and not name.endswith('num_batches_tracked'):
                source = lower if model.depth.layer_id(name) <= half else upper
                torch.testing.assert_close(value, source.backbone.state_dict()[name], rtol=0, atol=0, msg=name)
        assert bool(timm_families.step(objective, model.train()).isfinite())


@pytest.mark.parametrize('family', FAMILIES)
def test_a_run_is_converted_to_plain_timm(family, tmp_path):
    model = timm_families.model_of(family, 'MoCo v3', 1).eval()
    file = timm_families.save_run(model, tmp_path / 'run.pth')
    done = convert_file(file, tmp_path / 'timm.pth', ConvertOptions(target='timm'))
    assert 'timm.create_model(' in (next_steps(file) or '')
    theirs = plain(family)
    theirs.load_state_dict(torch.load(done.path, weights_only=True)['state_dict'], strict=True)
    with torch.no_grad():
        expected = model.backbone(images())[0]
        torch.testing.assert_close(theirs(images()), expected)
        frozen = load_backbone({**timm_families.backbone(family), 'pretrained': 'not/there.pth'}, file)
        torch.testing.assert_close(frozen(images())[0], expected)
        again = build(timm_families.backbone(family, pretrained=str(done.path)))
        again.init_weights()
        torch.testing.assert_close(again.eval()(images())[0], expected)


@pytest.mark.parametrize('family', FAMILIES)
def test_features_after_every_block(family):
    backbone = build(timm_families.backbone(family)).eval()
    name = 'class_token' if backbone.cls_token is not None and backbone.out_type == 'cls_token' else 'patch_mean'
    for block in range(1, depth_of(backbone).num_blocks + 1):
        cut = BlockFeature(backbone, block)
        output = cut.block_output(images())
        feature = encode_images(cut, images(), [name])[name]
        cut.release()
        assert feature.shape[0] == 2
        assert feature.shape[1] == (output.shape[1] if output.dim() == 4 else output.shape[2])
        assert bool(feature.std() > 0)
    features = encode_images(backbone, images(), [name])[name]
    torch.testing.assert_close(features, backbone(images())[0])


@pytest.mark.parametrize('family', DROPPING)
def test_kept_patches_are_those_of_timms_patch_dropout(family):
    name, options = timm_families.FAMILIES[family]
    backbone = build(timm_families.backbone(family))
    theirs = timm.create_model(name, num_classes=0, patch_drop_rate=0.5, **options).train()
    theirs.load_state_dict({n.removeprefix('timm_model.'): v for n, v in backbone.state_dict().items()})
    if getattr(theirs, 'rope', None) is not None:
        theirs.rope.eval()
    torch.manual_seed(5)
    keep = torch.randn(2, backbone.num_patches).argsort(dim=-1)[:, : backbone.num_patches // 2]
    torch.manual_seed(5)
    expected = theirs.forward_features(images())
    tokens = backbone.eval().encode(images(), keep)
    torch.testing.assert_close(tokens[:, :1], expected[:, :1])
    torch.testing.assert_close(tokens[:, 1:], expected[:, backbone.num_extra_tokens :])
    torch.testing.assert_close(backbone(images(), keep)[0], theirs.forward_head(expected, pre_logits=True))


def test_masked_views_of_moco_v3_take_kept_patches():
    model = timm_families.model_of('DINOv2, registers', 'MoCo v3', view_mask_ratio=0.5)
    assert bool(timm_families.step('MoCo v3', model.train()).isfinite())


# ---------------------------------------------------------------- other libraries
def test_grafts_between_this_toolbox_and_timm(tmp_path):
    """A ViT of the toolbox and one of timm are the same network under other names."""
    size = timm_families.SIZE
    own = vit_config(width=32, depth=2, heads=2, img_size=size, patch_size=16)
    ours = build({**timm_families.OBJECTIVES['MoCo v3']('ViT'), 'backbone': own})
    ours.init_weights()
    file = timm_families.save_run(ours.eval(), tmp_path / 'ours.pth')
    theirs = timm_families.model_of('ViT', 'MoCo v3', graft=[dict(checkpoint=file)]).eval()
    torch.testing.assert_close(theirs.backbone(images())[0], ours.backbone(images())[0])
    back = timm_families.save_run(theirs, tmp_path / 'theirs.pth')
    again = build({**timm_families.OBJECTIVES['MoCo v3']('ViT'), 'backbone': own, 'graft': [dict(checkpoint=back)]})
    again.init_weights()
    torch.testing.assert_close(again.eval().backbone(images())[0], ours.backbone(images())[0])


def test_a_run_of_timms_vit_is_converted_for_other_libraries(tmp_path):
    file = timm_families.save_run(timm_families.model_of('DINOv2, registers', 'MoCo v3'), tmp_path / 'run.pth')
    done = convert_file(file, tmp_path / 'hf.pth', ConvertOptions(target='hf'))
    assert any(name == 'embeddings.register_tokens' for name in done.conversion.state)
    swin = timm_families.save_run(timm_families.model_of('Swin V2', 'MoCo v3'), tmp_path / 'swin.pth')
    with pytest.raises(CheckpointError, match='only timm and TimmBackbone'):
        convert_file(swin, tmp_path / 'out.pth', ConvertOptions(target='hf'))


def test_a_file_of_hugging_face_is_grafted_into_timms_vit(tmp_path):
    model = timm_families.model_of('DINOv2, registers', 'MoCo v3').eval()
    file = timm_families.save_run(model, tmp_path / 'run.pth')
    done = convert_file(file, tmp_path / 'hf.pth', ConvertOptions(target='hf'))
    graft = [dict(checkpoint=str(done.path))]
    again = timm_families.model_of('DINOv2, registers', 'MoCo v3', 5, graft=graft).eval()
    torch.testing.assert_close(again.backbone(images())[0], model.backbone(images())[0])


@pytest.mark.parametrize('family', ['DINOv2, registers', 'Swin', 'ResNet'])
def test_the_encoder_of_a_run_is_built_from_its_file_alone(family, tmp_path):
    model = timm_families.model_of(family, 'MoCo v3').eval()
    file = timm_families.save_run(model, tmp_path / 'run.pth')
    side = timm_families.SIZE
    encoder = Encoder.from_checkpoint(file, size=(side, side), normalization=dict(mean=[0.0] * 3, std=[255.0] * 3))
    features = encoder((255 * images()).round())
    torch.testing.assert_close(features, model.backbone((255 * images()).round() / 255)[0], rtol=1e-4, atol=1e-5)


def test_masked_tec_takes_a_timm_model():
    config = tec_config(vit_config(width=32, depth=2, heads=2, img_size=timm_families.SIZE, patch_size=16))
    base = {**config['base_model'], 'topk': 2}
    encoder = timm_families.backbone('ConvNeXt', type='MaskedTimmBackbone')
    model = build(
        {
            'type': 'MaskedTEC',
            'base_model': base,
            'base_checkpoint': None,
            'backbone': encoder,
            'neck': {},
            'head': {'type': 'TECHead'},
        }
    )
    model._base.is_loaded = True
    assert bool(timm_families.step('MaskedTEC', model.train()).isfinite())


def test_a_graft_for_another_image_size_resizes_positions(tmp_path):
    file = timm_families.save_run(timm_families.model_of('ViT', 'MoCo v3'), tmp_path / 'run.pth')
    config = timm_families.backbone('ViT')
    config['options'] = {**config['options'], 'img_size': 96}
    model = build({**timm_families.OBJECTIVES['MoCo v3']('ViT'), 'backbone': config, 'graft': [dict(checkpoint=file)]})
    model.init_weights()
    assert model.backbone.cls_token is not None
    assert model.backbone.timm_model.pos_embed.shape[1] == 37


def test_the_momentum_encoder_of_a_run_can_be_taken(tmp_path):
    model = timm_families.model_of('ResNet', 'MoCo v3')
    for parameter in model.momentum_encoder.parameters():
        parameter.data.add_(1.0)
    encoder = read_encoder(timm_families.save_run(model, tmp_path / 'run.pth'), branch='momentum')
    expected = dict(model.momentum_encoder.backbone.state_dict())
    assert encoder.notes == ()
    for name, value in encoder.state.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


# ---------------------------------------------------------------- pretrained
def test_a_file_of_timm_with_its_classifier_is_read(tmp_path):
    name, options = timm_families.FAMILIES['DINOv2']
    whole = timm.create_model(name, num_classes=5, **{**options, 'img_size': 96}).eval()
    torch.save(whole.state_dict(), tmp_path / 'timm.pth')
    backbone = build(timm_families.backbone('DINOv2', pretrained=str(tmp_path / 'timm.pth')))
    backbone.init_weights()
    torch.testing.assert_close(backbone.timm_model.blocks[1].mlp.fc1.weight, whole.blocks[1].mlp.fc1.weight)
    assert backbone.timm_model.pos_embed.shape[1] == 17  # resized by timm


def test_every_tensor_of_a_file_is_accounted_for(tmp_path):
    state = plain('ResNet').state_dict()
    path = tmp_path / 'timm.pth'
    for change, words in (
        ({'layer1.0.conv1.weight': None}, 'lacks layer1.0.conv1.weight'),
        ({'layer9.0.conv1.weight': torch.zeros(1)}, 'has besides layer9.0.conv1.weight'),
        ({'layer1.0.conv1.weight': torch.zeros(1, 2)}, 'in another shape layer1.0.conv1.weight'),
    ):
        torch.save({k: v for k, v in {**state, **change}.items() if v is not None}, path)
        with pytest.raises(CheckpointError, match=words):
            build(timm_families.backbone('ResNet', pretrained=str(path))).init_weights()


def test_files_that_are_not_there_say_what_to_do():
    for source, words in (('hf:timm/none', 'hf download timm/none'), ('not/there.pth', 'not found')):
        with pytest.raises(CheckpointError, match=words):
            build(timm_families.backbone('ResNet', pretrained=source)).init_weights()


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ('config', 'words'),
    [
        (dict(name='resnet10'), "did you mean 'resnet1"),
        (dict(name='hf-hub:timm/resnet18'), 'not allowed'),
        (dict(name='resnet10t', options=dict(checkpoint_path='x')), 'not allowed'),
        (dict(name='resnet10t', options=dict(depht=2)), 'depht'),
        (dict(name='poolformer_s12'), 'group_matcher'),
    ],
)
def test_impossible_configs_are_refused(config, words):
    with pytest.raises(ConfigError, match=words):
        build({'type': 'TimmBackbone', **config})


def test_images_of_another_size_are_refused_with_the_remedy():
    model = timm_families.model_of('ViT', 'VICReg')
    views = [torch.rand(2, 3, 32, 32)] * 2
    with pytest.raises(ConfigError, match='dynamic_img_size'):
        model(views, mode='loss')
    config = timm_families.backbone('ViT')
    config['options'] = {**config['options'], 'dynamic_img_size': True}
    model = build({**timm_families.OBJECTIVES['VICReg']('ViT'), 'backbone': config})
    assert bool(sum(model(views, mode='loss').values()).isfinite())


def test_models_that_cannot_leave_out_patches_refuse_mae():
    with pytest.raises(ConfigError, match='MAE needs'):
        build(timm_families.mae('ResNet'))


def test_what_a_file_states_builds_no_other_model(tmp_path):
    model = timm_families.model_of('ResNet', 'MoCo v3')
    told = {**traits_of(model).as_meta(), 'timm': {'model_name': 'resnet10t', 'checkpoint_path': '/etc/passwd'}}
    torch.save({'state_dict': model.state_dict(), 'meta': {'encoder': told}}, tmp_path / 'run.pth')
    with pytest.raises(CheckpointError, match='arguments of timm'):
        convert_file(tmp_path / 'run.pth', tmp_path / 'out.pth', ConvertOptions(target='timm'))
