"""Every golden file is used by a test."""

import ast
import re
from pathlib import Path

import pytest
from helpers import TESTS, golden_folder

# file of a set -> test module that compares with it
LAYER_GRAFTED = {
    'classifier_gradient.npz': 'test_finetune',
    'contrastive_two_ranks.npz': 'test_contrastive_two_ranks',
    'finetune_param_groups.json': 'test_finetune',
    'gradient_cosine.npz': 'test_mae_and_gradient_cosine',
    'gradient_cosine_inputs.npz': 'test_mae_and_gradient_cosine',
    'gradient_cosine_views.npz': 'test_mae_and_gradient_cosine',
    'grafting.json': 'test_grafting',
    'l1_weight_distance.json': 'test_l1_distance',
    'lars.npz': 'test_lars',
    'layer_wise_lr.json': 'test_layer_wise_lr',
    'logistic_regression.npz': 'test_logistic_regression',
    'mae_decoder_state.npz': 'test_pos_embed',
    'moco_ema_after.npz': 'test_moco',
    'moco_ema_after_norms.json': 'test_moco',
    'moco_grad_norms.json': 'test_moco',
    'moco_grads.npz': 'test_moco',
    'moco_masked_views.npz': 'test_moco',
    'moco_state_base.npz': 'test_l1_distance',
    'moco_state_momentum.npz': 'test_l1_distance',
    'moco_step.npz': 'test_moco',
    'other_cl_losses.npz': 'test_other_cl_losses',
    'pos_embed.npz': 'test_pos_embed',
    'schedules.json': 'test_schedules',
    'train_three_steps.npz': 'test_train_three_steps',
    'train_three_steps_inputs.npz': 'test_train_three_steps',
    'train_three_steps_norms.json': 'test_train_three_steps',
}
# test_transfer lists the .json files itself
TRANSFER_NUMERIC = {
    'pos_embed_interp.npz': 'test_transfer',
    'rel_pos_interp.npz': 'test_transfer',
    'tec_tiny.npz': 'test_transfer',
    'vit_tiny_timm_names.npz': 'test_transfer',
}
# test_tec lists the teachers and students itself
TEC = {
    'base_checkpoint_formats.json': 'test_tec',
    'finetune_layer_decay_vitb_0.65.json': 'test_tec',
    'lr_schedule.json': 'test_tec',
    'merge_a.npz': 'test_tec',
    'pos_embed.npz': 'test_tec',
    'pretrain_weight_decay_a.json': 'test_tec',
    'train_trace_a.npz': 'test_tec',
}
# test_a2mim lists the many files of a kind itself, test_interaction its own
A2MIM = {
    'fourier_features.npz': 'test_feature_spectrum',
    'lr_schedule.npz': 'test_a2mim_recipes',
    'mask_generator.npz': 'test_a2mim',
    'param_groups.npz': 'test_a2mim_recipes',
}
SETS = {'layer_grafted': LAYER_GRAFTED, 'transfer/numeric': TRANSFER_NUMERIC, 'tec': TEC, 'a2mim': A2MIM}
# files that a test finds by the beginning of their names
LISTED = {
    'tec': r'(teacher|student)_\w\.npz',
    'a2mim': r'(backbone|e2e|ffl|head|interaction|mean_fill|neck)_\w+\.npz',
}


@pytest.mark.parametrize('method', SETS)
def test_every_file_of_the_chosen_set_is_used(method: str) -> None:
    folder = golden_folder(method)
    present = {path.name for path in folder.iterdir() if path.suffix in ('.npz', '.json')}
    present -= {name for name in present if re.fullmatch(LISTED.get(method, 'none'), name)}
    assert present, f'no golden files in {folder}'
    assert present <= set(SETS[method]), f'no test uses {sorted(present - set(SETS[method]))}'


@pytest.mark.parametrize('method', SETS)
def test_the_committed_set_holds_what_parity_needs(method: str) -> None:
    root = TESTS / 'data' / 'golden'
    committed = {path.name for path in (root / method).iterdir()}
    assert set(SETS[method]) - committed <= {'gradient_cosine_views.npz'}  # left out for its size
    for kind in re.findall(r'\w+(?=[|)])', LISTED.get(method, '').partition(')')[0] + ')'):
        assert any(name.startswith(f'{kind}_') for name in committed), f'no file {kind}_* is committed'
    assert (root / method.split('/')[0] / 'README.md').is_file()


@pytest.mark.parametrize(('name', 'module'), [pair for each in SETS.values() for pair in each.items()])
def test_module_names_its_file(name: str, module: str) -> None:
    tree = ast.parse((Path(__file__).parent / f'{module}.py').read_text())
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert name in strings  # as a value, not in a comment or a sentence
