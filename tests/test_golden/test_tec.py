"""TEC against the published code: base model, new model, gradients, training, merge, groups, schedules, formats.

Sizes and settings are those in each file's ``meta``; the cases are the files that are there.
"""

import json
import re
from math import isqrt
from typing import Any

import numpy as np
import pytest
import reference.tec as reference_tec
import torch
import torch.nn.functional as F
from golden_sets import golden_file, golden_names, some, starting
from helpers import TESTS, assert_close, build, count_numbered, tensor
from mmengine.config import Config

from mmselfsup_graft.checkpoints import TEC_MODEL, VIT_TIMM, convert, resize_position_table, sincos_table, to_encoder
from mmselfsup_graft.engine import LayerWiseLRConstructor
from mmselfsup_graft.engine.schedulers import warmup_cosine_factor
from mmselfsup_graft.models.backbones import TargetViT

CONFIGS = TESTS.parent / 'configs' / 'benchmarks' / 'finetune'


def read(name: str) -> Any:
    return golden_file(name, 'tec')


def cases(kind: str) -> list[str]:
    return golden_names(kind, 'tec')


def meta_of(arrays: dict[str, Any]) -> dict[str, Any]:
    return json.loads(str(arrays['meta']))


def weights(arrays: dict[str, Any], prefix: str = 'sd/', dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    return {name: tensor(value, dtype) for name, value in some(starting(arrays, prefix), f'arrays {prefix}*').items()}


def vit(meta: dict[str, Any], state: dict[str, torch.Tensor], **kwargs: Any) -> dict[str, Any]:
    """Sizes of a ViT, whose heads alone are in no shape."""
    width, channels, _, patch = state['patch_embed.proj.weight'].shape
    arch = dict(embed_dims=width, num_layers=count_numbered(state, 'blocks'), num_heads=meta['heads'])
    arch['feedforward_channels'] = state['blocks.0.mlp.fc1.weight'].shape[0]
    return dict(arch=arch, img_size=meta['img'], patch_size=patch, in_channels=channels, **kwargs)


# ---------------------------------------------------------------- base model
def base_model(name: str, dtype: torch.dtype = torch.float64) -> TargetViT:
    arrays = read(name)
    meta, state = meta_of(arrays), weights(arrays, dtype=dtype)
    model = build(dict(type='TargetViT', last_layers=meta['last'], topk=meta['topk'], **vit(meta, state))).to(dtype)
    missing, unused = model.load_state_dict({VIT_TIMM.to_canonical(n): v for n, v in state.items()}, strict=False)
    assert not missing
    assert set(unused) <= {'ln1.weight', 'ln1.bias'}  # the final norm
    return model


@pytest.mark.parametrize('name', cases('teacher'))
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_targets(name, dtype):
    arrays, model = read(name), base_model(name, dtype)
    targets = model.targets(tensor(arrays['img'], dtype))
    assert_close(targets.feature, arrays['target_feature'], rtol=2e-5, name='feature')
    assert np.array_equal(targets.rows, arrays['topk_idx'][:, 0])
    assert_close(targets.attention, arrays['target_att'][:, 0], rtol=2e-5, name='attention')
    model.topk = None
    alone = model.targets(tensor(arrays['img'], dtype))
    assert torch.equal(alone.feature, targets.feature)
    assert alone.rows is None
    assert alone.attention is None


@pytest.mark.parametrize('name', cases('teacher'))
def test_debug_aids(name):
    """The last block's output and its class row, where the file records them."""
    arrays, model = read(name), base_model(name)
    model.last_layers = 1
    targets = model.targets(tensor(arrays['img']))
    if 'block_last_tokens' in arrays:
        assert_close(targets.feature, arrays['block_last_tokens'][:, 1:], rtol=2e-5)
    if 'cls_logits' in arrays:
        assert_close(targets.attention[:, 0], arrays['cls_logits'][..., 1:], rtol=2e-5)


# ---------------------------------------------------------------- new model
def new_model(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """Our TEC with the weights of the file and a base model of the right sizes, which is not asked."""
    arrays = read(name)
    meta, state = meta_of(arrays), weights(arrays, dtype=dtype)
    sizes = vit(meta, state)
    width = arrays['target_feature'].shape[-1]
    attends = any(name.startswith('forward_att_decoder.') for name in state)
    heads = arrays['target_att'].shape[3] if attends else 1
    arch = dict(embed_dims=width, num_layers=1, num_heads=heads, feedforward_channels=8)
    base = {**sizes, 'arch': arch}
    topk = arrays['topk_idx'].shape[-1] if attends else None
    model = build(
        dict(
            type='TEC',
            base_model=dict(**base, topk=topk, last_layers=1),
            base_checkpoint=None,
            mask_ratio=meta['mask_ratio'],
            backbone=dict(type='TECViT', input_adaptor='cls_token_mlp.fc1.weight' in state, **sizes),
            neck=dict(
                type='TECDecoder',
                num_adap=meta.get('num_adap'),
                decoder_embed_dim=state['decoder_pos_embed'].shape[-1],
                decoder_depth=count_numbered(state, 'decoder_blocks'),
                decoder_num_heads=meta['dheads'],
            ),
            head=dict(type='TECHead', tau=meta.get('tau') or 1.0),
        )
    ).to(dtype)
    model.load_state_dict({TEC_MODEL.to_canonical(n): v for n, v in state.items()})
    return model


def stored_targets(arrays: dict[str, Any], dtype: torch.dtype = torch.float64) -> Any:
    from mmselfsup_graft.models.backbones import Targets

    feature = tensor(arrays['target_feature'], dtype)
    if 'target_att' not in arrays:
        return Targets(feature)
    return Targets(feature, tensor(arrays['topk_idx'])[:, 0], tensor(arrays['target_att'], dtype)[:, 0])


@pytest.mark.parametrize('name', cases('student'))
def test_forward_step_by_step(name):
    arrays, model = read(name), new_model(name)
    images, targets = tensor(arrays['img']), stored_targets(arrays)
    assert_close(model.backbone.input_token() + model.backbone.pos_embed[:, :1], arrays['cls_in'], rtol=2e-5)
    mask = model.draw_mask(images, tensor(arrays['noise']))
    assert np.array_equal(mask.mask, arrays['mask'])
    assert np.array_equal(mask.restore, arrays['ids_restore'])
    tokens, _ = model.backbone._embed(images, mask.keep)
    assert_close(tokens[:, 1:], arrays['x_visible'], rtol=2e-5, name='visible tokens')
    latent = model.backbone.encode_blocks(images, mask.keep)
    assert_close(latent, arrays['latent'], rtol=2e-5, name='latent')
    assert_close(model.neck.adaptor(latent), arrays['adapted'], rtol=2e-5, name='adapted')
    prediction = model.neck(latent, mask, targets.rows)
    hidden = np.take_along_axis(arrays['pred_feature'], mask.hidden.numpy()[..., None], axis=1)
    assert_close(prediction.feature, hidden, rtol=2e-5, name='feature')
    if 'pred_att' in arrays:
        assert_close(prediction.attention, arrays['pred_att'][:, 0], rtol=2e-5, name='attention')
    else:
        assert prediction.attention is None
    # the slow form predicts visible patches, too
    feature, attention, _ = reference_tec.predict(model, images, targets.rows, tensor(arrays['noise']))
    assert_close(feature, arrays['pred_feature'], rtol=2e-5, name='feature')
    assert (attention is None) == ('pred_att' not in arrays)


@pytest.mark.usefixtures('both_forms')
@pytest.mark.parametrize('name', cases('student'))
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_losses_and_gradients(name, dtype):
    arrays, model = read(name), new_model(name, dtype)
    targets = stored_targets(arrays, dtype)
    losses = model.masked_losses(tensor(arrays['img'], dtype), targets, tensor(arrays['noise'], dtype))
    assert_close(losses['loss_feature'], arrays['loss_fea'], rtol=0, atol=1e-5)
    assert ('loss_attention' in losses) == ('loss_att' in arrays)
    if 'loss_att' in arrays:
        assert_close(losses['loss_attention'], arrays['loss_att'], rtol=0, atol=1e-5)
    total = sum(losses.values())
    assert_close(total, arrays['loss_total'], rtol=0, atol=1e-5)
    total.backward()
    parameters = dict(model.named_parameters())
    norms = some(dict(zip(arrays['gradnorm_names'].tolist(), arrays['gradnorm'], strict=True)))
    ours = {TEC_MODEL.to_canonical(official): value for official, value in norms.items()}
    assert set(ours) == {n for n, p in parameters.items() if p.requires_grad}
    for parameter, value in ours.items():
        assert_close(parameters[parameter].grad.norm(), value, rtol=1e-4, atol=1e-7, name=parameter)
    for official, value in starting(arrays, 'grad/').items():
        gradient = parameters[TEC_MODEL.to_canonical(official)].grad
        assert_close(gradient, value, rtol=1e-4, atol=1e-7, name=official)


# ---------------------------------------------------------------- training
def optimizer_of(model: Any, lr: float, weight_decay: float, **kwargs: Any) -> torch.optim.Optimizer:
    wrapper = LayerWiseLRConstructor(
        dict(optimizer=dict(type='AdamW', lr=lr, weight_decay=weight_decay, **kwargs)), dict(no_decay_1d=True)
    )(model)
    return wrapper.optimizer


@pytest.mark.usefixtures('both_forms')
@pytest.mark.parametrize('name', cases('trace'))
def test_several_steps(name):
    trace = read(name)
    meta = meta_of(trace)
    arrays, model = read(meta['start']), new_model(meta['start'])
    images, targets = tensor(arrays['img']), stored_targets(arrays)
    settings = dict(betas=tuple(meta['betas']), eps=meta['eps'])
    optimizer = optimizer_of(model, meta['lr'], meta['weight_decay'], **settings)
    for step, noise in enumerate(some(trace['noise'], 'steps')):
        epoch = step / meta['iters_per_epoch']
        factor = warmup_cosine_factor(epoch, meta['warmup_epochs'], meta['epochs'], meta['min_lr'] / meta['lr'])
        assert_close(factor * meta['lr'], trace['lr'][step], rtol=1e-9, name=f'lr of step {step}')
        for group in optimizer.param_groups:
            group['lr'] = factor * meta['lr']
        losses = model.masked_losses(images, targets, tensor(noise))
        assert_close(losses['loss_feature'], trace['loss_fea'][step], rtol=0, atol=1e-5, name=f'step {step}')
        if 'loss_att' in trace:
            assert_close(losses['loss_attention'], trace['loss_att'][step], rtol=0, atol=1e-5, name=f'step {step}')
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()


def trained_names(student: str) -> set[str]:
    return set(read(student)['gradnorm_names'].tolist())


@pytest.mark.parametrize('name', cases('weight_decay'))
def test_weight_decay_in_pretraining(name):
    expected = some(read(name))
    students = [student for student in cases('student') if trained_names(student) == set(expected)]
    assert students, f'no new model has the parameters of {name}'
    model = new_model(students[0])
    optimizer = optimizer_of(model, 1.0, max(expected.values()))
    decay_of = {id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']}
    parameters = dict(model.named_parameters())
    found = {official: decay_of[id(parameters[TEC_MODEL.to_canonical(official)])] for official in expected}
    assert found == expected
    assert len(decay_of) == len(expected)


@pytest.mark.parametrize('name', cases('schedule'))
def test_learning_rate(name):
    file = read(name)
    scale = float(re.search(r'lr_scale ([\d.]+)', file['columns'][2])[1])
    for case in some(file['schedules'], 'schedules'):
        for epoch, plain, scaled in some(case['values'], 'epochs'):
            factor = warmup_cosine_factor(epoch, case['warmup_epochs'], case['epochs'], case['min_lr'] / case['lr'])
            assert_close(case['lr'] * factor, plain, rtol=1e-9, atol=1e-15, name=f'{case["name"]}, epoch {epoch}')
            # the floor is a share of the peak of each group
            assert_close(scale * case['lr'] * factor, scaled, rtol=1e-9, atol=1e-15, name=case['name'])


# ---------------------------------------------------------------- merge and fine-tuning
def pretrained(merge: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The pre-training file that was merged; the merge's own arrays come first."""
    state = weights(read(meta_of(merge)['weights']), dtype=torch.float32)
    return {**state, **{name: tensor(value, torch.float32) for name, value in starting(merge, 'before/').items()}}


@pytest.mark.parametrize('name', cases('merge'))
def test_merged_class_token_gives_the_same_features(name):
    arrays = read(name)
    meta, state = meta_of(arrays), pretrained(arrays)
    done = convert({'model': state}, name, 'timm')
    kept = set(arrays['keys_after'].tolist())
    norm = {'norm.weight', 'norm.bias'} & set(state)  # which the published converter loses
    assert set(done.state) == kept | norm
    assert set(convert({'model': state}, name, 'timm', final_norm=False).state) == kept
    assert_close(done.state['cls_token'], arrays['after/cls_token'], rtol=1e-6)
    sources = {source for source, _, op in done.rows if op.startswith('cls_token_mlp')}
    assert sources == {'cls_token'}

    # the fine-tuned form before, with the MLP, and after, without
    images = tensor(arrays['img'], torch.float32)
    features = []
    merged = to_canonical_vit(done.state)
    with_mlp = to_encoder({'model': state}, 'file').state
    for kind, given in (('TECViT', with_mlp), ('SelfSupViT', merged)):
        backbone = build(dict(type=kind, out_type='avg_featmap', final_norm=False, **vit(meta, state)))
        # pooled over the patches, then fc_norm, which mmpretrain calls ln2
        given = {**given, **{f'ln2.{n}': tensor(arrays[f'fc_norm.{n}'], torch.float32) for n in ('weight', 'bias')}}
        missing, unused = backbone.load_state_dict(given, strict=False)
        assert not missing
        assert set(unused) <= {'ln1.weight', 'ln1.bias'}
        backbone.eval()
        with torch.no_grad():
            features.append(backbone(images)[-1])
    assert torch.equal(*features)
    for feature, when in zip(features, ('before', 'after')):
        assert_close(feature, arrays[f'feat_{when}'], rtol=2e-5)
        head = [tensor(arrays[f'head.{n}'], torch.float32) for n in ('weight', 'bias')]
        assert_close(F.linear(feature, *head), arrays[f'logits_{when}'], rtol=2e-5)


def to_canonical_vit(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {VIT_TIMM.to_canonical(name): value for name, value in state.items()}


@pytest.mark.parametrize('name', cases('merge'))
def test_what_a_pretraining_file_holds_beside_the_encoder(name):
    arrays = read(name)
    state = pretrained(arrays)
    assert set(arrays['keys_before'].tolist()) == set(state)
    encoder = to_encoder({'model': state}, 'file', 'tec')
    names = {official for entry in encoder.entries for official, _ in entry.origins}
    unexpected = set(arrays['unexpected_when_loading_pretrain_into_finetune_model'].tolist())
    # their fine-tuned model has no final norm; ours may keep it
    assert set(encoder.dropped) == unexpected - {'norm.weight', 'norm.bias'}
    assert names == set(state) - set(encoder.dropped)


def classifier(names: list[str], drop_path_rate: float, recipe: Config) -> Any:
    """The shipped recipe's model, as deep as the names tell."""
    depth = count_numbered(names, 'blocks')
    arch = dict(embed_dims=16, num_layers=depth, num_heads=2, feedforward_channels=32)
    pooled = 'fc_norm.weight' in names
    backbone = dict(
        recipe.model.backbone,
        arch=arch,
        input_adaptor=any(name.startswith('cls_token_mlp.') for name in names),
        drop_path_rate=drop_path_rate,
        out_type='avg_featmap' if pooled else 'cls_token',
        final_norm=not pooled,
    )
    head = dict(recipe.model.head, loss=dict(type='mmpretrain.CrossEntropyLoss'))
    with torch.device('meta'):
        return build(dict(type='GraftedClassifier', backbone=backbone, head=head))


@pytest.mark.parametrize('name', cases('layer_decay'))
def test_layer_decay_groups(name):
    """Of the shipped recipe, with the file's decay."""
    file = read(name)
    recipe = Config.fromfile(CONFIGS / 'finetune-tec-mae-300e_vit-base-p16_8xb128-amp-coslr-100e_in1k.py')
    model = classifier(list(file['groups']), file['drop_path_rate'], recipe)
    frozen = [n.removeprefix('backbone.') for n, p in model.named_parameters() if not p.requires_grad]
    assert frozen == file['frozen']
    constructor = LayerWiseLRConstructor(
        dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=file['weight_decay'])),
        {**recipe.optim_wrapper.paramwise_cfg, 'layer_wise_decay_ratio': file['layer_decay']},
    )
    groups = constructor.param_groups(model)
    found = {name: (group['lr_scale'], group['weight_decay']) for group in groups for name in group['param_names']}
    expected = {}
    for official, values in some(file['groups']).items():
        name = official if official.startswith('head.') else f'backbone.{VIT_TIMM.to_canonical(official)}'
        expected[name.replace('head.', 'head.fc.') if name.startswith('head.') else name] = tuple(values)
    for name, (scale, decay) in expected.items():
        assert found[name][0] == pytest.approx(scale, rel=1e-9), name
        assert found[name][1] == decay, name
    assert set(found) == set(expected)
    rates = [
        layer.attn.out_drop.drop_prob if hasattr(layer.attn.out_drop, 'drop_prob') else 0.0
        for layer in model.backbone.layers
    ]
    assert_close(np.array(rates), np.array(file['drop_path_per_block']), rtol=1e-6)


# ---------------------------------------------------------------- position tables and files
@pytest.mark.parametrize('name', cases('positions'))
def test_position_tables(name):
    arrays = read(name)
    for table, value in some(starting(arrays, 'sincos_'), 'tables').items():
        side = isqrt(len(value) - 1)  # row 0 is the class token
        assert_close(sincos_table((side, side), value.shape[-1])[0], value, rtol=1e-6, name=table)
    side = isqrt(arrays['interp_out'].shape[1] - 1)
    resized = resize_position_table(tensor(arrays['interp_in'], torch.float32), (side, side), 1)
    assert_close(resized, arrays['interp_out'], rtol=1e-5)


@pytest.mark.parametrize('name', cases('formats'))
def test_base_checkpoints(name):
    """What the published loader takes out of each layout.

    Ours takes the teacher of a full iBOT file unless asked for the student, and of a file with both ``model`` and
    ``state_dict`` the latter.
    """
    content = read(name)
    for case in some(content if isinstance(content, list) else content['cases'], 'layouts'):
        given = _filled(case['input'])
        wanted = {VIT_TIMM.to_canonical(n) for n in case['output_keys'] if n.startswith(('cls_token', 'blocks'))}
        some(wanted, f'names of {case["case"]}')
        holder = next((key for key in ('state_dict', 'model', 'student') if key in given), None)
        encoder = to_encoder(given, case['case'], branch='student' if holder == 'student' else None)
        taken = given[holder] if holder else given
        if {'model', 'state_dict'} <= given.keys():
            assert encoder.state['cls_token'] is given['state_dict']['cls_token'], case['case']
            continue
        assert wanted <= set(encoder.state), case['case']
        for entry in encoder.entries:
            assert any(entry.tensor is value for value in taken.values()), case['case']
        if holder == 'student':
            assert to_encoder(given, case['case']).branch == 'teacher'


def _filled(layout: dict[str, Any]) -> dict[str, Any]:
    """Tensors in the places of a layout, completed by the few names by which every ViT is recognized."""
    done = {key: _filled(value) if isinstance(value, dict) else torch.randn(1) for key, value in layout.items()}
    tokens = [key for key in done if key.endswith('cls_token')] or [key for key in done if key.endswith('norm.weight')]
    for token in tokens:
        prefix = token.removesuffix('cls_token').removesuffix('norm.weight')
        for name in ('cls_token', 'blocks.0.attn.qkv.weight', 'patch_embed.proj.weight'):
            done.setdefault(prefix + name, torch.randn(1))
    return done
