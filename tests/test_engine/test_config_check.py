"""Mistyped keys are refused with a suggestion; everything the runner can build is accepted."""

import copy
import re
from pathlib import Path

import mmpretrain
import pytest
import torchvision
from mmengine.config import Config

from mmselfsup_graft import registry as ours
from mmselfsup_graft.engine.config.check import apply_cfg_options, check_config
from mmselfsup_graft.engine.config.known_keys import parameters, section_of
from mmselfsup_graft.engine.config.run_values import check_values
from mmselfsup_graft.engine.config.value_ranges import wrong_value
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.utils.suggestions import did_you_mean

DIGITS_MAE = Path(__file__).parents[2] / 'configs/mae/mae_vit-micro-p4_1xb64-coslr-70e_digits-16px.py'
STOCK = Path(mmpretrain.__file__).parent / '.mim' / 'configs'


def small_config(**changes) -> Config:
    pipeline = [dict(type='LoadImageFromFile'), dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]
    config = dict(
        default_scope='mmpretrain',
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='VisionTransformer', arch='deit-tiny', init_cfg=[dict(type='TruncNormal', std=0.02)]),
            head=dict(type='VisionTransformerClsHead', num_classes=10, in_channels=192),
            train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]),
        ),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
            dataset=dict(type='CustomDataset', data_root='data', pipeline=pipeline),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=1e-3),
            clip_grad=dict(max_norm=1.0),
            paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'.cls_token': dict(decay_mult=0.0)}),
        ),
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=2, convert_to_iter_based=True)],
        default_hooks=dict(logger=dict(type='LoggerHook', interval=10)),
        custom_hooks=[dict(type='EmptyCacheHook', priority='ABOVE_NORMAL')],
        env_cfg=dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='gloo')),
        randomness=dict(seed=0, deterministic=True),
        auto_scale_lr=dict(base_batch_size=256),
        img_size=64,
        _note='free',
    )
    return Config({**config, **changes})


def set_key(config: Config, key: str, value: object) -> Config:
    config.merge_from_dict({key: value})
    return config


def test_a_correct_config_passes_unchanged():
    config = small_config()
    before = copy.deepcopy(config.to_dict())
    check_config(config)
    assert config.to_dict() == before


@pytest.mark.parametrize(
    ('key', 'suggestion'),
    [
        ('model.backbone.drop_path', 'drop_path_rate'),
        ('model.bakbone', 'backbone'),
        ('model.backbone.init_cfg.0.stdd', 'std'),
        ('model.train_cfg.augments.0.alfa', 'alpha'),
        ('train_dataloader.batchsize', 'batch_size'),
        ('train_dataloader.sampler.shufle', 'shuffle'),
        ('train_dataloader.dataset.data_rot', 'data_root'),
        ('train_dataloader.dataset.pipeline.1.probs', 'prob'),
        ('train_cfg.max_epoch', 'max_epochs'),
        ('optim_wrapper.clip_grads', 'clip_grad'),
        ('optim_wrapper.optimizer.weight_dcay', 'weight_decay'),
        ('optim_wrapper.paramwise_cfg.norm_decay', 'norm_decay_mult'),
        ('param_scheduler.0.tmax', 'T_max'),
        ('default_hooks.logger.intervall', 'interval'),
        ('custom_hooks.0.priorty', 'priority'),
        ('env_cfg.cudnn_bench', 'cudnn_benchmark'),
        ('env_cfg.mp_cfg.mp_start', 'mp_start_method'),
        ('randomness.sede', 'seed'),
        ('auto_scale_lr.base_batchsize', 'base_batch_size'),
        ('optim_wraper', 'optim_wrapper'),
    ],
)
def test_a_mistyped_key_is_named_with_the_nearest_one(key, suggestion):
    with pytest.raises(ConfigError) as error:
        check_config(set_key(small_config(), key, 1))
    assert f"unknown key '{key}'" in str(error.value)
    assert f"did you mean '{suggestion}'?" in str(error.value)
    assert '\n' not in str(error.value)


def test_all_problems_are_reported_at_once():
    config = set_key(set_key(small_config(), 'model.bakbone', 1), 'train_cfg.max_epoch', 2)
    with pytest.raises(ConfigError, match=r"'model\.bakbone'.*'train_cfg\.max_epoch'"):
        check_config(config)


def test_an_unknown_type_names_the_nearest_types():
    config = set_key(small_config(), 'model.backbone.type', 'VisionTransfomer')
    with pytest.raises(ConfigError, match=r"'model\.backbone\.type'.*did you mean.*'VisionTransformer'"):
        check_config(config)


def test_a_type_of_another_scope_is_suggested_with_its_prefix():
    config = small_config(default_scope='mmengine')
    with pytest.raises(ConfigError, match=r"did you mean .*'mmpretrain\.ImageClassifier'"):
        check_config(config)


def test_own_scope_and_inner_scope_are_respected():
    model = dict(type='mmpretrain.ImageClassifier', backbone=dict(type='ResNet', depth=18, _scope_='mmpretrain'))
    check_config(Config(dict(default_scope='mmselfsup_graft', model=model)))


def test_a_variable_is_accepted_when_the_config_reads_it(tmp_path):
    path = tmp_path / 'read.py'
    path.write_text('val_evaluators = [dict(metrics=[])]\nval_evaluator = val_evaluators[0]\n')
    check_config(Config.fromfile(str(path)))
    path.write_text('val_evaluators = [dict(metrics=[])]\n')
    with pytest.raises(ConfigError, match="did you mean 'val_evaluator'"):
        check_config(Config.fromfile(str(path)))


def test_a_dumped_config_passes_again(tmp_path):
    path = tmp_path / 'dumped.py'
    small_config(train_pipeline=[dict(type='LoadImageFromFile')], dataset_type='CustomDataset').dump(str(path))
    check_config(Config.fromfile(str(path)))


@pytest.mark.parametrize(
    'name',
    [
        'mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py',
        'mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py',
        'mocov3/mocov3_vit-base-p16_16xb256-amp-coslr-300e_in1k.py',
        'mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py',
        'simmim/simmim_swin-base-w6_8xb256-amp-coslr-100e_in1k-192px.py',
        'swav/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px.py',
        'resnet/resnet50_8xb32_in1k.py',
        'resnet/resnet50_8xb256-rsb-a1-600e_in1k.py',
        'convnext/convnext-tiny_32xb128_in1k.py',
    ],
)
def test_stock_configs_of_mmpretrain_pass(name):
    check_config(Config.fromfile(str(STOCK / name)))


def test_options_from_the_command_line_are_merged():
    config = small_config()
    apply_cfg_options(
        config,
        {
            'optim_wrapper.optimizer.lr': 0.5,
            'optim_wrapper.optimizer.weight_decay': 0.1,  # not written in the config, known to AdamW
            'param_scheduler.0.T_max': 7,
            'train_dataloader.num_workers': 1,
            'train_dataloader.pin_memory': True,
            'resume': True,
            'optim_wrapper.paramwise_cfg.custom_keys.gamma.decay_mult': 0.0,
            'env_cfg.dist_cfg.backend': 'gloo',
        },
    )
    assert config.optim_wrapper.optimizer == dict(type='AdamW', lr=0.5, weight_decay=0.1)
    assert config.param_scheduler[0].T_max == 7
    assert config.resume is True
    check_config(config)


@pytest.mark.parametrize('reverse', [False, True])
def test_options_may_change_a_type_and_its_keys_together(reverse):
    options = {'model.backbone.type': 'ResNet', 'model.backbone.depth': 18}
    config = small_config()
    apply_cfg_options(config, dict(sorted(options.items(), reverse=reverse)))
    assert config.model.backbone.depth == 18


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('optim_wrapper.optimizer.learning', 'AdamW has no such option'),
        ('optim_wrapper.optimzer.lr', "did you mean 'optimizer'"),
        ('modle.backbone.depth', "did you mean 'model'"),
        ('image_size', "did you mean 'img_size'"),
        ('param_scheduler.3.T_max', 'list of 1 items'),
        ('param_scheduler.T_max', 'list of 1 items'),
        ('randomness.seed.width', 'not a section'),
        ('env_cfg.mp_cfg.threads', 'it has: distributed, mp_start_method'),
    ],
)
def test_a_mistyped_option_is_refused_and_nothing_changes(option, message):
    config = small_config()
    before = copy.deepcopy(config.to_dict())
    with pytest.raises(ConfigError, match=message):
        apply_cfg_options(config, {'randomness.seed': 9, option: 1})
    assert config.to_dict() == before


class Base:
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)


class Closed:
    def __init__(self, width):
        self.width = width


class Forwarding(Closed):
    def __init__(self, first, *args, **kwargs):
        super().__init__(*args, **kwargs)


class Other(Closed):
    def __init__(self, depth=1, **kwargs):
        self.extra = kwargs.pop('extra', None)
        super().__init__(**kwargs)


class Open(Closed):
    def __init__(self, depth=1, **kwargs):
        super().__init__(width=kwargs.pop('extra'))


def own_init(self, heads=1, **kwargs):
    super(type(self), self).__init__(**kwargs)


Own = type('Own', (Closed,), {'__init__': own_init, '__module__': 'mmselfsup_graft.own'})
OwnOfOther = type('OwnOfOther', (Other,), {'__init__': own_init, '__module__': 'mmselfsup_graft.own'})


def test_parameters_follow_the_chain_of_signatures():
    assert parameters(lambda a, *, b: None) == ({'a', 'b'}, True)
    assert parameters(Closed) == ({'width'}, True)
    assert parameters(Forwarding) == ({'first', 'width'}, True)
    assert parameters(type('Plain', (), {})) == (set(), True)
    # another library's **kwargs: the names seen, and perhaps others
    assert parameters(Base) == ({'width'}, False)
    assert parameters(Other) == ({'depth', 'width'}, False)
    # one of ours hands them on
    assert parameters(Own) == ({'heads', 'width'}, True)
    assert parameters(OwnOfOther) == ({'heads', 'depth', 'width'}, False)


@pytest.mark.parametrize(('key', 'refused'), [('widths', True), ('dept', True), ('extra', False), ('kernel', False)])
def test_a_class_that_may_take_other_keys_refuses_misspellings_only(key, refused):
    section = section_of({'type': Open}, 'model', {}, ours.MODELS, 'mmengine')
    assert section.owner == 'Open'
    assert section.refuses(key) == refused


def test_a_constructor_may_declare_its_own_options():
    class Constructor:
        PARAMWISE_KEYS = ('lr_layer_wise',)

    around = {'constructor': Constructor}
    assert section_of({}, 'paramwise_cfg', around, None, 'mmengine')[:2] == ('Constructor', {'lr_layer_wise'})


def test_default_types_belong_to_the_top_level_only():
    loop, wrapper, several = dict(fp16=True), dict(optimizer={}, constructor='X'), dict(a={}, constructor='X')
    assert section_of(loop, 'test_cfg', {}, ours.LOOPS, 'mmengine').owner == 'TestLoop'
    assert section_of(loop, 'test_cfg', {}, ours.MODELS, 'mmengine').owner is None
    assert section_of(wrapper, 'optim_wrapper', {}, ours.OPTIM_WRAPPERS, 'mmengine').owner == 'OptimWrapper'
    assert section_of(several, 'optim_wrapper', {}, ours.OPTIM_WRAPPERS, 'mmengine').owner is None


def test_suggest():
    assert did_you_mean('stage_on', ['stage_one', 'other']) == " (did you mean 'stage_one'?)"
    assert did_you_mean('xyz', ['stage_one']) == ''


def test_parts_and_projectors_are_checked():
    dataset = dict(type='Digits', part=[dict(share=0.1, sed=1)])
    with pytest.raises(ConfigError, match=r"unknown key 'train_dataloader.dataset.part.0.sed' .*did you mean 'seed'"):
        check_config(Config(dict(default_scope='mmselfsup_graft', train_dataloader=dict(dataset=dataset))))
    head = dict(type='FirstFCHead', num_classes=2, in_channels=4, projector=dict(checkpoint='x.pth', layers=(0, 1)))
    model = dict(type='GraftedClassifier', backbone=dict(type='SelfSupViT'), head=head)
    with pytest.raises(ConfigError, match=r"unknown key 'model.head.projector.layers'"):
        check_config(Config(dict(default_scope='mmselfsup_graft', model=model)))


@pytest.mark.parametrize(
    ('part', 'wrong', 'right'), [('base_model', 'topkk', 'topk'), ('backbone', 'input_adapter', 'input_adaptor')]
)
def test_keys_of_both_models_of_tec(part, wrong, right):
    folder = Path(__file__).parents[2] / 'configs' / 'tec'
    cfg = Config.fromfile(folder / 'tec_vit-mini-p4_1xb128-coslr-60e_fashion-mnist-28px.py')
    check_config(cfg)
    cfg.model[part][wrong] = 1
    with pytest.raises(ConfigError, match=f"unknown key 'model.{part}.{wrong}'.*did you mean '{right}'"):
        check_config(cfg)


def on_the_device(fast, scope='mmselfsup_graft', **model) -> Config:
    loader = dict(
        dataset=dict(type='mmengine.RepeatDataset', times=2, dataset=dict(type='mmselfsup_graft.Digits', fast=fast))
    )
    return Config(dict(default_scope=scope, model=model, train_dataloader=loader))


@pytest.mark.parametrize('name', ['SelfSupDataPreprocessor', 'ClsDataPreprocessor'])
@pytest.mark.parametrize('fast', ['device', 'nvjpeg', 'dali'])
def test_a_preprocessor_that_would_leave_augmentations_out_is_refused(name, fast):
    refused = f"fast='{fast}'.*'mmpretrain.{name}'.*set data_preprocessor.type to 'mmselfsup_graft.{name}'.*fast='cpu'"
    theirs = dict(type=f'mmpretrain.{name}')
    with pytest.raises(ConfigError, match=refused):
        check_config(on_the_device(fast, type='MAE', data_preprocessor=theirs))
    with pytest.raises(ConfigError, match=refused):  # at the top of the config, as mmpretrain's configs have it
        check_config(Config({**on_the_device(fast, type='MAE').to_dict(), 'data_preprocessor': theirs}))
    for mode in (False, 'cpu'):
        check_config(on_the_device(mode, type='MAE', data_preprocessor=theirs))
    for ours_ in (dict(type=name), dict(type=f'mmselfsup_graft.{name}'), dict(mean=[1.0])):
        check_config(on_the_device(fast, type='MAE', data_preprocessor=ours_))
    with pytest.raises(ConfigError, match=f"'{name}' of another library"):  # the bare name, in the other scope
        check_config(on_the_device(fast, 'mmpretrain', type='MAE', data_preprocessor=dict(type=name)))


def test_a_model_of_mmpretrain_brings_its_own_preprocessor():
    with pytest.raises(ConfigError, match='ClsDataPreprocessor'):
        check_config(on_the_device('device', 'mmpretrain', type='ImageClassifier'))
    check_config(on_the_device('device', type='mmpretrain.ImageClassifier'))  # the name is looked up in our scope


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'compile': 'often'}, 'compile takes True, False or a dict'),
        ({'activation_checkpointing': 'yes'}, "activation_checkpointing takes True, False or a list .*, got 'yes'"),
        ({'optim_wrapper': {'accumulative_counts': 0}}, 'accumulative_counts must be a whole .* 1, got 0'),
        ({'train_dataloader': {'dataset': {'dataset': {'fast': 'gpu'}}}}, "fast is 'gpu', expected"),
    ],
)
def test_values_of_switches(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_values(Config(values))
    check_values(Config({'compile': {'mode': 'default'}, 'activation_checkpointing': ['backbone']}))


@pytest.mark.parametrize(
    ('key', 'value', 'expected'),
    [
        ('optim_wrapper.optimizer.lr', 'fast', 'float'),
        ('optim_wrapper.optimizer.lr', True, 'float'),
        ('optim_wrapper.optimizer.betas', 'high', 'float'),
        ('optim_wrapper.optimizer.betas', 0.9, 'float'),
        ('train_dataloader.batch_size', 2.5, 'int'),
        ('train_dataloader.batch_size', 'many', 'int'),
        ('train_dataloader.num_workers', False, 'int'),
        ('train_dataloader.drop_last', 'maybe', 'bool'),
        ('train_dataloader.sampler.shuffle', 'yes', 'bool'),
        ('train_dataloader.dataset.pipeline.1.prob', 'often', 'float'),
        ('train_cfg.max_epochs', 'ten', 'int'),
        ('param_scheduler.0.T_max', 'long', 'int'),
        ('randomness.deterministic', 3, 'bool'),
    ],
)
def test_values_of_another_kind_are_refused_at_their_key(key, value, expected):
    config = small_config()
    with pytest.raises(ConfigError, match=rf"'{re.escape(key)}' is {value!r}, .*{expected}"):
        check_config(set_key(config, key, value))


@pytest.mark.parametrize('name', ['mmpretrain.torchvision/RandomResizedCrop', 'mmpretrain.RandomResizedCrop'])
@pytest.mark.parametrize(('word', 'is_right'), [('bicubic', True), ('bikubic', False), ('bicubik', False)])
def test_words_of_a_closed_list(name, word, is_right):
    key = {'size': 8} if 'torchvision' in name else {'scale': 8}
    config = small_config()
    config.train_dataloader.dataset.pipeline.insert(1, dict(type=name, interpolation=word, **key))
    if is_right:
        check_config(config)
        return
    with pytest.raises(ConfigError, match=r"pipeline\.1\.interpolation' is 'bi.*bilinear"):
        check_config(config)


@pytest.mark.parametrize(
    ('option', 'place'),
    [
        ('lr', 'optim_wrapper.optimizer.lr'),
        ('batch_size', 'train_dataloader.batch_size'),
        ('data_root', 'train_dataloader.dataset.data_root'),
        ('max_epochs', '--epochs N'),
        ('img_size', ''),
        ('train_pipeline.1.prob', 'train_dataloader.dataset.pipeline.1.prob'),
        ('training_pipeline.1.prob', 'train_dataloader.dataset.pipeline.1.prob'),
    ],
)
def test_an_option_that_nothing_reads_is_refused_with_the_place_that_is_read(option, place):
    config = small_config()
    config.train_pipeline = copy.deepcopy(config.train_dataloader.dataset.pipeline)
    config.data_root = 'data'
    before = copy.deepcopy(config.to_dict())
    with pytest.raises(ConfigError) as error:
        apply_cfg_options(config, {option: 9})
    assert place in str(error.value)
    assert config.to_dict() == before


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('optim_wrapper.optimizer.lr', -1),
        ('optim_wrapper.clip_grad', 1.0),
        ('train_dataloader.batch_size', 0),
        ('train_dataloader.batch_size', -4),
        ('train_dataloader.num_workers', -1),
        ('resume', 'maybe'),
        ('log_level', 'LOUD'),
        ('auto_scale_lr.enable', 'perhaps'),
        ('env_cfg.cudnn_benchmark', 'maybe'),
        ('data_preprocessor', dict(mean=[])),
        ('data_preprocessor', dict(std=[0.0, 1.0, 1.0])),
        ('data_preprocessor', dict(std=0)),
    ],
)
def test_impossible_numbers_are_refused_at_their_key(key, value):
    config = set_key(small_config(), key, value)
    if isinstance(value, dict):
        ((name, value),) = value.items()
        key = f'{key}.{name}'
    with pytest.raises(ConfigError, match=rf'{re.escape(key)} is {re.escape(repr(value))}'):
        check_values(config)


@pytest.mark.parametrize(
    'sizes', [dict(num_layers='two'), dict(embed_dims=0), dict(num_heads=2.5), dict(num_heads=[2, 0])]
)
def test_impossible_sizes_are_refused_at_their_key(sizes):
    config = small_config()
    config.model.backbone.arch = sizes
    ((name, value),) = sizes.items()
    with pytest.raises(
        ConfigError, match=rf'model\.backbone\.arch\.{name} is {re.escape(repr(value))}, expected a whole'
    ):
        check_values(config)


def test_heads_of_several_stages_are_a_list():
    config = small_config()
    config.model.backbone.arch = dict(embed_dims=32, depths=[2, 2], num_heads=[2, 4])
    check_values(config)


@pytest.mark.parametrize(
    ('transform', 'key', 'value', 'fits'),
    [
        ('RandomResizedCrop', 'scale', 'big', False),
        ('RandomResizedCrop', 'scale', (1.0, 0.2), False),
        ('RandomResizedCrop', 'scale', (0.2, 1.0), True),
        ('RandomResizedCrop', 'ratio', 1.0, False),
        ('RandomHorizontalFlip', 'p', 'often', False),
        ('RandomHorizontalFlip', 'p', 1.5, False),
        ('RandomHorizontalFlip', 'p', 0.5, True),
    ],
)
def test_ranges_of_transforms_without_annotations(transform, key, value, fits):
    target = getattr(torchvision.transforms, transform)
    assert (wrong_value(target, key, value) is None) == fits


@pytest.mark.parametrize(
    ('option', 'place'),
    [
        ('base_lr', 'optim_wrapper.optimizer.lr'),
        ('epochs', '--epochs N'),
        ('max_epochs', '--epochs N'),
        ('data_dir', '--data-root DIR'),
        ('model.backbone.T_max', 'param_scheduler.0.T_max'),
    ],
)
def test_a_key_is_looked_for_elsewhere(option, place):
    with pytest.raises(ConfigError, match=re.escape(place)):
        apply_cfg_options(small_config(), {option: 1})


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [
        ('default_hooks.chekpoint.interval', 2, "chekpoint has no type.*'checkpoint'"),
        ('default_hooks.logger.interval', 0, 'at least 1'),
        ('optim_wrapper.clip_grad.maxnorm', 1.0, 'max_norm'),
        ('optim_wrapper.clip_grad', {'max_norm': 1.0, 'norm_type': 'l2'}, 'max_norm'),
        ('optim_wrapper.clip_grad', {'type': 'value', 'max_norm': 1.0}, 'max_norm'),
        ('optim_wrapper.optimizer.weight_decay', -0.1, 'at least 0'),
        ('auto_scale_lr.base_batch_size', 'many', 'whole number'),
        ('launcher', 'slurm', 'give --launcher'),
        ('custom_imports.imports', ['no_such_module'], 'cannot be imported'),
    ],
)
def test_options_that_would_change_nothing_or_fail_later(option: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(DIGITS_MAE, {option: value})


@pytest.mark.parametrize(
    'value',
    [
        {'max_norm': 1},
        {'max_norm': 0.5, 'norm_type': 1, 'error_if_nonfinite': True},
        {'type': 'value', 'clip_value': 2.0},
    ],
)
def test_clipping_as_torch_takes_it(value: dict) -> None:
    assert load_config(DIGITS_MAE, {'optim_wrapper.clip_grad': value}).optim_wrapper.clip_grad == value


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('train_cfg.max_epochs', 0),
        ('auto_scale_lr.rule', 'squareroot'),
        ('env_cfg.float32_matmul_precision', 'hi'),
        ('evaluation.loader.batch_size', -3),
    ],
)
def test_values_that_nothing_could_use_are_refused_before_a_run(key, value):
    config = small_config()
    config.merge_from_dict({key: value})
    with pytest.raises(ConfigError, match=rf'{re.escape(key)} is {re.escape(repr(value))}, expected'):
        check_values(config)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('model.data_preprocessor', dict(type='mmpretrain.ClsDataPreprocessor', mean=[1.0] * 4, std=[1.0] * 4)),
        ('optim_wrapper.clip_grad', dict(max_norm=1.0, norm_type='inf')),
        ('log_level', 'NOTSET'),
    ],
)
def test_values_that_torch_and_other_libraries_take_pass(key, value):
    config = small_config()
    config.merge_from_dict({key: value})
    check_config(config)


@pytest.mark.parametrize(('model', 'known'), [('MAE', 'mean'), ('GraftedClassifier', 'std')])
def test_a_preprocessor_without_type_is_that_of_its_model(model, known):
    config = small_config(default_scope='mmselfsup_graft')
    config.model = dict(type=model, backbone=config.model.backbone, data_preprocessor={f'{known}n': [0.0]})
    with pytest.raises(ConfigError, match=rf"model\.data_preprocessor\.{known}n.*DataPreprocessor.*'{known}'"):
        check_config(config)


def test_a_misspelled_constructor_is_named_at_its_place():
    config = small_config()
    config.optim_wrapper.constructor = 'LayerWiseLRConstructr'
    config.optim_wrapper.paramwise_cfg = dict(lr_layer_wise=[1.0])
    with pytest.raises(ConfigError, match=r"'optim_wrapper\.constructor': unknown type 'LayerWiseLRConstructr'"):
        check_config(config)


def test_words_of_a_transform_of_the_user_are_its_own():
    def transform(interpolation: str) -> None:
        """Take any word."""

    transform.__module__ = 'user_code'
    assert wrong_value(transform, 'interpolation', 'random') is None
