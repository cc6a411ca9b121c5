"""A loss or gradient that is not finite: noticed, named, never saved, left out if that is asked for."""

import json
import math
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from test_tools.tiny_runs import assert_same_run, load, merged, tiny_config, write_config

from mmselfsup_graft.datasets.augment import pack_batch
from mmselfsup_graft.datasets.augment.blur import BlurRow
from mmselfsup_graft.datasets.augment.flip import FlipRow
from mmselfsup_graft.engine import GraftRunner
from mmselfsup_graft.engine.nonfinite import hook as nonfinite
from mmselfsup_graft.engine.nonfinite.kept_batch import KeptBatch
from mmselfsup_graft.engine.nonfinite.origin import find_nonfinite, nonfinite_names
from mmselfsup_graft.engine.nonfinite.step_guard import HostTransfer, StepGuard, gradient_norm
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import ConfigError, GraftError
from mmselfsup_graft.registry import HOOKS

NAN, INF = float('nan'), float('inf')
LENGTH = 8  # 2 epochs of 4 iterations


class BadGradient(torch.autograd.Function):
    """The identity, whose gradient is not finite."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, bad: float) -> torch.Tensor:
        ctx.bad = bad
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0] * ctx.bad, None


@HOOKS.register_module(force=True)
class Fault(Hook):
    """Break something at given iterations: ``loss``, ``gradient`` (within the second block) or ``data``."""

    priority = 'HIGHEST'

    def __init__(self, kind: str, iterations: tuple[int, ...], value: str = 'nan') -> None:
        self.kind, self.iterations, self.value = kind, iterations, float(value)
        self.now = False

    def before_train(self, runner: Any) -> None:
        model = runner.model
        if self.kind == 'gradient':
            block = model.backbone.layers[1].ffn
            block.register_forward_hook(lambda _m, _i, out: BadGradient.apply(out, self.value) if self.now else None)
        if self.kind == 'loss':
            parse = model.parse_losses

            def broken(losses: dict[str, torch.Tensor]) -> Any:
                bad = {name: each * self.value if self.now else each for name, each in losses.items()}
                return parse(bad)

            model.parse_losses = broken
        if self.kind == 'data':
            model.data_preprocessor.register_forward_hook(self.spoil)

    def spoil(self, _module: Any, _given: Any, output: dict[str, Any]) -> None:
        if self.now:
            views = output['inputs']
            (views[0] if isinstance(views, list) else views).view(-1)[0] = self.value

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self.now = runner.iter in self.iterations


def train(folder: Path, kind: str = 'mim', resume: bool = False, **options: Any) -> GraftRunner:
    often = dict(default_hooks=dict(checkpoint=dict(by_epoch=False, interval=2, max_keep_ckpts=-1)))
    content = merged(merged(tiny_config(kind, images=32), often), options)
    cfg = load_config(write_config(folder / 'config.py', content))
    cfg.work_dir, cfg.experiment_name, cfg.resume = str(folder), uuid.uuid4().hex, resume
    runner = GraftRunner.from_cfg(cfg)
    runner.train()
    return runner


def faulty(kind: str, *iterations: int, value: float = NAN, **more: Any) -> dict[str, Any]:
    return {'custom_hooks': [dict(type='Fault', kind=kind, iterations=iterations, value=str(value))], **more}


def rows(folder: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> float:
        raise AssertionError(f'{constant} is not JSON')

    return [json.loads(line, parse_constant=refuse) for line in (folder / 'history.jsonl').read_text().splitlines()]


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs without a fault."""
    folders = {kind: tmp_path_factory.mktemp(f'whole_{kind}') for kind in ('mim', 'cl')}
    for kind, folder in folders.items():
        train(folder, kind)
    return folders


# ---------------------------------------------------------------- a run stops, and can be resumed
@pytest.mark.parametrize(
    ('run', 'kind', 'value', 'iteration', 'words', 'origin'),
    [
        # checkpoints come after iterations 1, 3, 5, 7
        ('mim', 'loss', NAN, 3, 'the loss became nan at iteration 3', 'the loss, computed from finite outputs'),
        ('mim', 'loss', INF, 4, 'the loss became inf at iteration 4', 'the loss, computed from finite outputs'),
        ('mim', 'gradient', NAN, 5, 'the gradient became nan at iteration 5', 'computed by backbone.layers.1.ffn'),
        ('cl', 'gradient', INF, 2, r'the gradient became \w+ at iteration 2', 'computed by backbone.layers.1.ffn'),
        ('mim', 'data', NAN, 5, 'the loss became nan at iteration 5', 'the output of data_preprocessor'),
        ('cl', 'data', INF, 7, 'the loss became nan at iteration 7', 'the output of data_preprocessor'),
    ],
)
def test_the_run_stops_before_anything_is_saved(
    whole: dict[str, Path],
    tmp_path: Path,
    run: str,
    kind: str,
    value: float,
    iteration: int,
    words: str,
    origin: str,
) -> None:
    last = iteration // 2 * 2
    with pytest.raises(GraftError, match=words) as caught:
        train(tmp_path, run, **faulty(kind, iteration, value=value))
    assert origin in str(caught.value)
    assert f'Resume from {tmp_path / f"iter_{last}.pth"}' in str(caught.value)
    assert sorted(tmp_path.glob('*_*.pth')) == [
        *(tmp_path / f'iter_{n}.pth' for n in range(2, last + 1, 2)),
        tmp_path / 'nonfinite_batch.pth',
    ]
    for name, saved in load(tmp_path / f'iter_{last}.pth')['state_dict'].items():
        assert saved.isfinite().all(), name
    assert [row['iter'] for row in rows(tmp_path)] == list(range(iteration))

    kept = load(tmp_path / 'nonfinite_batch.pth')
    assert kept['iter'] == iteration
    assert not (math.isfinite(kept['loss']) and math.isfinite(kept['grad_norm']))
    assert len(kept['images']) == 8
    # with that batch sound the resumed run ends as one without the fault
    runner = train(tmp_path, run, resume=True)
    batches = dict(zip(kept['images'], kept['inputs'] if run == 'mim' else kept['inputs'][0]))
    assert len(batches) == 8
    assert runner.iter == LENGTH
    assert_same_run(tmp_path / f'iter_{LENGTH}.pth', whole[run] / f'iter_{LENGTH}.pth')
    assert (tmp_path / 'history.jsonl').read_text() == (whole[run] / 'history.jsonl').read_text()


def test_the_kept_batch_is_that_of_the_fault(tmp_path: Path) -> None:
    seen: dict[int, Any] = {}

    class See(Hook):
        def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
            seen[runner.iter] = data_batch['inputs']

    HOOKS.register_module(name='SeeBatches', force=True, module=See)
    hooks = [*faulty('gradient', 5)['custom_hooks'], dict(type='SeeBatches')]
    with pytest.raises(GraftError):
        train(tmp_path, custom_hooks=hooks)
    kept = load(tmp_path / 'nonfinite_batch.pth')
    assert torch.equal(kept['inputs'], seen[5])
    assert kept['found'] == 'the gradient computed by backbone.layers.1.ffn'


@pytest.mark.parametrize('several', [False, True])
def test_what_was_left_to_the_device_is_kept_as_plain_data(tmp_path: Path, several: bool) -> None:
    packed = pack_batch([[FlipRow(True), BlurRow(0.5, 2.0)], [FlipRow(False), BlurRow(1.5, 2.0)]])
    data = {'inputs': torch.zeros(2, 3, 4, 4), 'augment': [packed, packed] if several else packed}
    assert 'is kept' in KeptBatch(3, 1, 0, data).keep(SimpleNamespace(work_dir=tmp_path, train_dataloader=None))
    views = torch.load(tmp_path / 'nonfinite_batch.pth', weights_only=True)['augment']
    assert len(views) == 1 + several
    for flip, blur in views:
        assert (flip['row'], flip['happens'].tolist()) == ('FlipRow', [1.0, 0.0])
        assert (blur['row'], blur['sigma'].tolist(), blur['largest'].tolist()) == ('BlurRow', [0.5, 1.5], [2.0, 2.0])


def test_it_is_noticed_late_and_still_the_right_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU that is behind the host: results come three iterations late, or when they are awaited."""

    class Late(HostTransfer):
        def arrived(self, wait: bool = False) -> Any:
            while len(self._sent) > (0 if wait else 3):
                yield next(super().arrived(True))

    monkeypatch.setattr(nonfinite, 'HostTransfer', Late)
    for iteration, stopped in ((1, 2), (4, 6)):  # before the checkpoint of iteration 1; of 5
        folder = tmp_path / str(iteration)
        with pytest.raises(GraftError, match=f'at iteration {iteration} '):
            train(folder, **faulty('gradient', iteration))
        kept = load(folder / 'nonfinite_batch.pth')
        assert kept['iter'] == iteration
        # the fault of this test has passed when iteration 5 is done, so running the batch again finds nothing
        assert kept['found'] == {1: 'the gradient computed by backbone.layers.1.ffn', 4: None}[iteration]
        assert len(rows(folder)) == stopped
        assert not (folder / f'iter_{stopped}.pth').exists()


def test_weights_that_went_bad_by_themselves_are_not_saved(tmp_path: Path) -> None:
    class Spoil(Hook):
        priority = 'LOW'

        def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
            if runner.iter == 3:
                parameter = runner.model.neck.decoder_pred.weight
                runner.optim_wrapper.optimizer.state[parameter]['exp_avg_sq'][0, 0] = INF

    HOOKS.register_module(name='SpoilMoments', force=True, module=Spoil)
    words = 'exp_avg_sq of neck.decoder_pred.weight in the optimizer holds NaN or infinity after iteration 3'
    with pytest.raises(GraftError, match=words):
        train(tmp_path, custom_hooks=[dict(type='SpoilMoments')])
    assert not (tmp_path / 'iter_4.pth').exists()


def test_a_checkpoint_with_bad_weights_is_not_resumed(whole: dict[str, Path], tmp_path: Path) -> None:
    content = load(whole['mim'] / 'iter_4.pth')
    content['state_dict']['backbone.layers.1.ln1.weight'][0] = NAN
    torch.save(content, tmp_path / 'iter_4.pth')
    with pytest.raises(
        GraftError, match=r'iter_4.pth does not fit .*backbone.layers.1.ln1.weight holds NaN or infinity'
    ):
        train(tmp_path, resume=True)


# ---------------------------------------------------------------- steps left out
SKIP = dict(default_hooks=dict(nonfinite=dict(skip_nonfinite=2)))
LARS = dict(optim_wrapper=dict(optimizer=dict(type='LARS', lr=0.1, weight_decay=1e-6)))
SGD = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)))


def keeping_weights(seen: dict[int, Any]) -> str:
    class Weights(Hook):
        priority = 'LOW'

        def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
            state = runner.model.state_dict()
            moments = runner.optim_wrapper.optimizer.state_dict()['state']
            flat = {f'{n}.{k}': v for n, each in moments.items() for k, v in each.items()}
            kept = {n: v for n, v in {**state, **flat}.items() if 'num_batches' not in n and 'momentum_enc' not in n}
            seen[runner.iter] = {n: v.clone() for n, v in kept.items() if isinstance(v, torch.Tensor)}

    name = f'Weights{uuid.uuid4().hex}'
    HOOKS.register_module(name=name, module=Weights)
    return name


@pytest.mark.parametrize(
    ('run', 'kind', 'value', 'optimizer'),
    [
        ('cl', 'data', NAN, {}),
        ('mim', 'loss', INF, {}),
        ('cl', 'gradient', NAN, LARS),
        ('mim', 'gradient', INF, SGD),
    ],
)
def test_a_step_is_left_out(tmp_path: Path, run: str, kind: str, value: float, optimizer: dict[str, Any]) -> None:
    seen: dict[int, Any] = {}
    hooks = [*faulty(kind, 0, 3, value=value)['custom_hooks'], dict(type=keeping_weights(seen))]
    train(tmp_path, run, **{**merged(SKIP, {}), **optimizer, 'custom_hooks': hooks})
    for number in range(1, LENGTH):
        same = all(torch.equal(seen[number][name], value) for name, value in seen[number - 1].items())
        assert same == (number == 3), number
    assert all(value.isfinite().all() for value in seen[LENGTH - 1].values())
    lines = rows(tmp_path)
    assert [line.get('skipped_steps') for line in lines] == [1, 1, 1, 2, 2, 2, 2, 2]
    assert all(math.isfinite(line['loss']) for line in lines if 'loss' in line)
    progress = json.loads((tmp_path / 'progress.json').read_text())
    assert '2 steps were left out because their loss or gradient was not finite; iterations 0, 3' in progress['notes']
    hub = load(tmp_path / f'iter_{LENGTH}.pth')['message_hub']
    assert hub['runtime_info']['skipped_steps'] == [0, 3]


def test_so_many_steps_and_no_more_also_over_a_resume(tmp_path: Path) -> None:
    with pytest.raises(GraftError, match=r'at iteration 5 .*after 2 steps that were left out'):
        train(tmp_path / 'whole', **faulty('gradient', 1, 3, 5), **SKIP)
    assert load(tmp_path / 'whole' / 'nonfinite_batch.pth')['iter'] == 5
    with pytest.raises(GraftError, match='at iteration 2 '):
        train(tmp_path / 'halves', **faulty('gradient', 0, 1, 2), **SKIP)
    with pytest.raises(GraftError, match='at iteration 7 '):  # 0 and 1 are counted in iter_2.pth
        train(tmp_path / 'halves', resume=True, **faulty('gradient', 7), **SKIP)


def test_accumulated_gradients(whole: dict[str, Path], tmp_path: Path) -> None:
    """The micro-batch that brought it is kept; a step is left out as a whole and counted once."""
    twice = dict(optim_wrapper=dict(accumulative_counts=2))
    for iteration in (2, 3):
        folder = tmp_path / str(iteration)
        with pytest.raises(GraftError, match=f'at iteration {iteration} '):
            train(folder, **faulty('gradient', iteration), **twice)
        assert load(folder / 'nonfinite_batch.pth')['iter'] == iteration
    seen: dict[int, Any] = {}
    hooks = [*faulty('gradient', 2, 3, 6)['custom_hooks'], dict(type=keeping_weights(seen))]
    train(tmp_path / 'skip', custom_hooks=hooks, **twice, **SKIP)
    changed = [n for n in range(1, 8) if any(not torch.equal(seen[n][k], v) for k, v in seen[n - 1].items())]
    assert changed == [1, 5]
    assert rows(tmp_path / 'skip')[-1]['skipped_steps'] == 2


def test_watching_changes_no_bit(whole: dict[str, Path], tmp_path: Path) -> None:
    train(tmp_path / 'off', default_hooks=dict(nonfinite=None))
    assert_same_run(tmp_path / 'off' / f'iter_{LENGTH}.pth', whole['mim'] / f'iter_{LENGTH}.pth')
    train(tmp_path / 'skip', **SKIP)
    assert_same_run(tmp_path / 'skip' / f'iter_{LENGTH}.pth', whole['mim'] / f'iter_{LENGTH}.pth')


def test_options() -> None:
    for value in (-1, True, 1.5):
        with pytest.raises(ConfigError, match='skip_nonfinite must be a whole number'):
            nonfinite.NonFiniteLossHook(skip_nonfinite=value)


# ---------------------------------------------------------------- the parts
def test_a_step_of_the_loss_scaler_is_no_fault() -> None:
    """float16's scaler leaves steps out by itself, fused on the device and others on the host."""
    for fused in (True, False):
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
        guard = StepGuard(type('Wrapper', (), {'optimizer': optimizer, 'gradient_norm': None})())
        scaler = torch.amp.GradScaler('cpu', init_scale=4.0)
        norms = []
        for factor in (1.0, INF, 1.0):
            optimizer.zero_grad()
            scaler.scale((weight * factor).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            norms.append(guard.take_norm())
        assert torch.isfinite(weight).all()
        assert norms[0].isfinite()
        assert norms[2].isfinite()
        if fused:
            assert norms[1] == 0
        assert scaler.get_scale() == 2.0
        guard.close()


def test_norm_of_gradients() -> None:
    values = [torch.randn(3, 4), torch.randn(5).double(), torch.zeros(0)]
    wanted = torch.cat([value.double().reshape(-1) for value in values]).norm()
    assert float(gradient_norm(values)) == pytest.approx(float(wanted), rel=1e-6)
    assert gradient_norm([]) is None
    assert gradient_norm([torch.zeros(0)]) is None


def test_names_of_tensors() -> None:
    large = torch.full((4,), 1e30)  # the squares overflow, the values do not
    named = {'a': large, 'b': torch.tensor([1.0, NAN]), 'c': torch.tensor([3]), 'd': torch.tensor(INF).half()}
    assert nonfinite_names(named.items()) == ['b', 'd']


class Net(torch.nn.Module):
    """Two layers; ``fault`` names what goes wrong."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(3, 3), torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU())
        self.fault = fault

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        if self.fault == 'between':
            x = x * INF
        x = self.second(x)
        return BadGradient.apply(x, NAN) if self.fault == 'late' else x


def test_the_module_of_a_fault() -> None:
    data = torch.randn(2, 3)

    def origin(net: Net, loss: Any = torch.sum) -> str | None:
        found = find_nonfinite(net, lambda: loss(net(data)))
        return found and found.where

    assert origin(Net('')) is None
    assert origin(Net('between')) == 'the output of the model'
    assert origin(Net('late')) == 'the gradient computed by the model'
    net = Net('')
    assert origin(net, lambda x: x.sum() / 0) == 'the loss, computed from finite outputs'
    wanted = 'the gradient that reaches second.1 from what is computed of its output'
    assert origin(net, lambda x: (x * 0).sum().sqrt()) == wanted
    net.second[0].weight.register_hook(lambda gradient: gradient * NAN)
    assert origin(net) == 'the gradient computed by second.0'
    net.second[0].weight.data.fill_(NAN)
    assert origin(net) == 'the parameter second.0.weight'
