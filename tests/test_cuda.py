"""What a GPU must give: the numbers of the CPU and of the recordings, no waiting, runs that resume.

Left out where there is no GPU. ``GRAFT_TEST_DEVICE=cpu`` runs it there all the same, and so tests the tests.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from algorithm_cases import CASES, make_model, make_views, results_of_step, stir
from golden_sets import golden, some
from harness.counting import count_step
from harness.task import Settings
from helpers import assert_close, mae_from_golden, moco_config, moco_from_golden, tensor, vit_config
from mmengine.dataset import default_collate
from mmengine.optim import build_optim_wrapper
from subjects import step as steps
from test_datasets.test_fast.images import MASKED, TWO_VIEWS, dataset, write_photos
from test_golden import test_a2mim, test_tec
from test_tools.tiny_runs import call_tool, fresh_name, load, tiny_config, write_config

from mmselfsup_graft.checkpoints import MOCOV3_MODEL, TEC_MODEL
from mmselfsup_graft.registry import MODELS, OPTIMIZERS

DEVICE = torch.device(os.environ.get('GRAFT_TEST_DEVICE', 'cuda'))
ON_GPU = DEVICE.type == 'cuda'
MAIN = 'layer_grafted'


@pytest.fixture(autouse=True)
def settings_of_torch() -> Iterator[None]:
    """Keep what the benchmarks switch, and that they silence logs, from the other tests."""
    kept = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = kept[:2]
    torch.set_float32_matmul_precision(kept[2])
    logging.disable(logging.NOTSET)


def moved(*arrays: Any) -> list[torch.Tensor]:
    return [tensor(each).to(DEVICE) for each in arrays]


def assert_agree(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    assert {value.device.type for value in found.values()} == {DEVICE.type}
    largest = max(float(value.abs().max()) for key, value in expected.items() if key.startswith('gradient'))
    for key, value in expected.items():
        # some true gradients are zero, before a batch norm
        assert_close(found[key], value, rtol=1e-9, atol=1e-11 * largest, name=key)


# ---------------------------------------------------------------- beside the CPU
@pytest.mark.parametrize('name', CASES)
def test_a_step_is_that_of_the_cpu(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.rand  # both devices get the numbers of the CPU's generator
    monkeypatch.setattr(torch, 'rand', lambda *size, device=None, **options: draw(*size, **options).to(device or 'cpu'))
    config, count = CASES[name]
    model, views, found = make_model(config(), tmp_path), make_views(count), []
    stir(model)
    for device in ('cpu', DEVICE):
        twin, inputs = deepcopy(model).to(device), [view.to(device) for view in views]
        torch.manual_seed(5)
        found.append(results_of_step(twin, twin.loss(inputs if count > 1 else inputs[0])))
    assert_agree(found[1], found[0])


@pytest.mark.parametrize('name', CASES)
def test_bfloat16_stays_finite(name: str, tmp_path: Path) -> None:
    config, count = CASES[name]
    model = make_model(config(), tmp_path).float().to(DEVICE)
    kind = dict(type='AutocastOptimWrapper', dtype='bfloat16', optimizer=dict(type='AdamW', lr=1e-3, fused=True))
    wrapper = build_optim_wrapper(model, kind)
    before = [parameter.clone() for parameter in model.parameters()]
    inputs = [view.float().to(DEVICE) for view in make_views(count)]
    with wrapper.optim_context(model):
        losses = model.loss(inputs if count > 1 else inputs[0])
    wrapper.update_params(sum(losses.values()))
    assert all(loss.isfinite() for loss in losses.values())
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert any(not torch.equal(*pair) for pair in zip(before, model.parameters()))


OPTIMIZERS_HERE = [dict(type=name, lr=0.1, weight_decay=0.01) for name in OPTIMIZERS.module_dict]
ADAMW = dict(type='AdamW', lr=0.01, weight_decay=0.1)


@pytest.mark.parametrize('optimizer', [*OPTIMIZERS_HERE, ADAMW, dict(ADAMW, fused=True)], ids=str)
def test_a_step_of_an_optimizer_is_that_of_the_cpu(optimizer: dict[str, Any], tmp_path: Path) -> None:
    model, found = make_model(moco_config(vit_config()), tmp_path), []
    generator = torch.Generator().manual_seed(1)
    gradients = {
        name: torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    for device in ('cpu', DEVICE):
        twin = deepcopy(model).to(device)
        kind = dict(type='OptimWrapper', optimizer=optimizer, clip_grad=dict(max_norm=1.0))
        wrapper = build_optim_wrapper(twin, dict(kind, constructor='LayerWiseLRConstructor'))
        for name, parameter in twin.named_parameters():
            parameter.grad = gradients[name].to(device, copy=True) if name in gradients else None
        wrapper.step()
        found.append(dict(twin.named_parameters()))
    for name, expected in found[0].items():
        assert_close(found[1][name], expected, rtol=1e-10, name=name)
    assert any(not torch.equal(found[0][name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize('mode', ['device', 'nvjpeg'])
@pytest.mark.parametrize('pipeline', [MASKED, TWO_VIEWS], ids=['one view', 'two views'])
def test_batches_are_augmented_as_on_the_cpu(mode: str, pipeline: list, tmp_path: Path) -> None:
    batch = default_collate(dataset(write_photos(tmp_path), pipeline, mode).__getitems__(range(6)))
    found = []
    for device in ('cpu', DEVICE):
        preprocess = MODELS.build(dict(type='SelfSupDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3)).to(device)
        views = preprocess(deepcopy(batch))['inputs']
        views = views if isinstance(views, list) else [views]
        assert {view.device.type for view in views} == {torch.device(device).type}
        found.append(torch.stack([view.cpu() for view in views]))
    difference = (found[0] - found[1]).abs()  # of 255
    if mode == 'device':
        # a value that is rounded the other way may pass the threshold of solarize, or turn in hue
        assert (difference > 1).float().mean() < 1e-3
    else:
        assert difference.mean() < 3  # nvJPEG decodes chroma by other filters than libjpeg


# ---------------------------------------------------------------- beside the recordings
def test_recorded_step_of_mocov3() -> None:
    step, model = golden('moco_step.npz'), moco_from_golden().to(DEVICE)
    loss = model.loss(moved(step['x1'], step['x2']))['loss']
    assert_close(loss, step['loss_float64'], name='loss')
    loss.backward()
    parameters = dict(model.named_parameters())
    for name, expected in some(golden('moco_grads.npz')).items():
        assert_close(parameters[MOCOV3_MODEL.to_canonical(name)].grad, expected, name=name)
    for name, expected in some(golden('moco_ema_after.npz')).items():
        assert_close(parameters[MOCOV3_MODEL.to_canonical(name)], expected, name=name)


def test_recorded_losses_of_mae() -> None:
    inputs, model = golden('gradient_cosine_inputs.npz'), mae_from_golden().to(DEVICE)
    for batch, expected in enumerate(some(golden('gradient_cosine.npz')['mim_loss'], 'batches')):
        images, noise = moved(inputs['image'][batch], inputs['mask_noise'][batch])
        assert_close(model.loss(images, noise=noise)['loss'], expected, name=f'batch {batch}')


@pytest.mark.parametrize('name', test_a2mim.files('step'))
def test_recorded_steps_of_a2mim_and_simmim(name: str) -> None:
    arrays, model = test_a2mim.read(name)[0], test_a2mim.step_model(name).to(DEVICE)
    images, mask = moved(arrays['raw'], arrays['mask'])
    assert_close(sum(model.loss(images, mask=mask).values()), arrays['loss'], rtol=1e-5)


@pytest.mark.parametrize('name', test_tec.cases('student'))
def test_recorded_losses_of_tec(name: str) -> None:
    arrays, model = test_tec.read(name), test_tec.new_model(name).to(DEVICE)
    targets = test_tec.stored_targets(arrays)
    targets = type(targets)(*(each if each is None else each.to(DEVICE) for each in targets))
    loss = sum(model.masked_losses(*moved(arrays['img']), targets, *moved(arrays['noise'])).values())
    assert_close(loss, arrays['loss_total'], rtol=0, atol=1e-5)
    loss.backward()
    parameters = dict(model.named_parameters())
    for official, norm in some(dict(zip(arrays['gradnorm_names'].tolist(), arrays['gradnorm'], strict=True))).items():
        gradient = parameters[TEC_MODEL.to_canonical(official)].grad
        assert_close(gradient.norm(), norm, rtol=1e-4, atol=1e-7, name=official)


# ---------------------------------------------------------------- training
@pytest.mark.parametrize('model', [name for name in steps.MODELS if name.endswith('-tiny')])
def test_a_step_of_training_does_not_wait_for_the_device(model: str) -> None:
    """An iteration of the whole loop, hooks included, that logs nothing."""
    task = steps.build(model, steps.OURS, Settings(DEVICE.type, 'bf16', batch_size=4))
    for _ in range(2):  # buffers and the state of the optimizer are made, kernels are chosen
        task.step()
    if not ON_GPU:
        assert count_step(task.step)['host_reads'] == 0
        return
    torch.cuda.set_sync_debug_mode('error')
    try:
        task.step()
    finally:
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize('kind', ['mim', 'lgp', 'multi'])
def test_a_run_resumes(kind: str, tmp_path: Path) -> None:
    """By its losses: where a true gradient is zero, AdamW makes a step of its rounding."""
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
    config, whole, again = write_config(tmp_path / 'tiny.py', tiny_config(kind)), tmp_path / 'whole', tmp_path / 'again'
    done = call_tool('train', config, '--work-dir', whole, *fresh_name())
    assert done.code == 0, done.err
    assert not ON_GPU or torch.cuda.max_memory_allocated() > 0
    again.mkdir()
    shutil.copy(whole / 'epoch_1.pth', again)
    done = call_tool('train', config, '--work-dir', again, '--resume', *fresh_name())
    assert done.code == 0, done.err
    first, second = (load(folder / 'epoch_2.pth') for folder in (whole, again))
    assert first['meta']['iter'] == second['meta']['iter']
    assert first['optimizer']['state'].keys() == second['optimizer']['state'].keys()
    losses = [history(folder) for folder in (again, whole)]
    assert_close(*(some([row[1] for row in rows][-6:]) for rows in losses), rtol=1e-3)
    assert [row[0] for row in losses[0]] == [row[0] for row in losses[1]][-len(losses[0]) :]


def history(folder: Path) -> list[tuple[int, float]]:
    """Iterations of a run with their losses."""
    rows = map(json.loads, (folder / 'history.jsonl').read_text().splitlines())
    return [(row['iter'], row['loss']) for row in rows if 'loss' in row]
