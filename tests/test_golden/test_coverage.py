"""Every golden file is used by a test."""

import ast
from pathlib import Path

import pytest
from helpers import TESTS, golden_folder

# file -> test module that compares with it
USED_BY = {
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


def test_every_file_of_the_chosen_set_is_used() -> None:
    present = {path.name for path in golden_folder().iterdir() if path.suffix in ('.npz', '.json')}
    assert present, f'no golden files in {golden_folder()}'
    assert present <= set(USED_BY), f'no test uses {sorted(present - set(USED_BY))}'


def test_the_committed_set_holds_what_parity_needs() -> None:
    committed = {path.name for path in (TESTS / 'data' / 'golden' / 'layer_grafted').iterdir()}
    assert set(USED_BY) - committed <= {'gradient_cosine_views.npz'}  # left out for its size
    assert 'README.md' in committed


@pytest.mark.parametrize('name', USED_BY)
def test_module_names_its_file(name: str) -> None:
    tree = ast.parse((Path(__file__).parent / f'{USED_BY[name]}.py').read_text())
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert name in strings  # as a value, not in a comment or a sentence
