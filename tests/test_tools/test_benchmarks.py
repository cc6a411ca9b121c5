"""The benchmarks run at tiny sizes, count right, take turns, and turn what fails into rows. No time is judged."""

import ctypes
import gc
import json
import multiprocessing
import subprocess
from pathlib import Path

import cv2
import pytest
import torch
from harness import contest
from harness.clock import BlockClock
from harness.contest import Contest
from harness.counting import count_step
from harness.machine import machine, peak_tflops, software
from harness.memory import peak_in_use
from harness.options import chosen
from harness.summary import Row, speed_ratios, summarize
from harness.tables import markdown_table, rate, ratio, text_table, timing
from harness.task import Settings
from harness.threads import set_threads
from PIL import Image
from subjects.loader import Loading, endless_batches, enough_steps
from subjects.photos import make_photos
from test_tools.counted_subjects import WIDTHS, Linear
from test_tools.piped_forks import FORKING
from test_tools.sleeping_images import SECONDS, SleepingImages, ThreadCounts
from test_tools.tiny_runs import call_tool
from torch import nn

from mmselfsup_graft.errors import ConfigError


@pytest.fixture
def forks(monkeypatch):
    """Processes of a contest are forks, which start in no time."""
    monkeypatch.setattr(contest, 'subprocess', FORKING)


def rows_of(contest_settings: Settings, subject: str, names: list[str], rounds: int, steps: int) -> dict[str, Row]:
    # the processes look for the subjects where this one does
    contest = Contest('test_tools.counted_subjects', subject, names, contest_settings, rounds, steps, lambda _: None)
    return {row.implementation: row for row in contest.run()}


# ---------------------------------------------------------------- arithmetic
def row(name: str, *seconds: float, images: int = 4) -> Row:
    return Row(name, images=images, blocks=[{'cpu': value, 'wall': 2 * value} for value in seconds])


def test_ratios_are_taken_round_by_round():
    slow, fast = row('slow', 4.0, 8.0, 6.0), row('fast', 1.0, 4.0, 2.0, images=2)
    assert speed_ratios(fast, slow, 'cpu') == [2.0, 1.0, 1.5]
    assert speed_ratios(slow, fast, 'wall') == [0.5, 1.0, pytest.approx(2 / 3)]


def test_the_summary_has_median_spread_rate_and_only_ratios_that_exist():
    failed = Row('gone', status='failed', reason='no')
    slow, fast, gone = summarize(
        [row('slow', 4.0, 8.0, 6.0), row('fast', 1.0, 4.0, 2.0), failed], ['slow', 'gone'], 'cpu'
    )
    assert slow['seconds']['wall'] == {'median': 12.0, 'low': 8.0, 'high': 16.0}
    assert fast['images_per_second'] == {'median': 2.0, 'low': 1.0, 'high': 4.0}
    assert fast['ratios'] == {'slow': {'median': 3.0, 'low': 2.0, 'high': 4.0, 'rounds': [4.0, 2.0, 3.0]}}
    assert slow['ratios']['slow']['rounds'] == [1.0, 1.0, 1.0]
    assert 'seconds' not in gone
    assert gone['reason'] == 'no'


def test_tables_leave_out_empty_columns_and_name_what_is_missing():
    entries = summarize(
        [row('slow', 4.0), row('fast', 1.0), Row('gone', status='missing', reason='no')], ['slow'], 'cpu'
    )
    columns = [timing('CPU s', 'cpu', '.1f', 1.0), timing('GPU s', 'gpu'), rate(), ratio('slow')]
    text = text_table('a model', entries, columns)
    assert 'GPU s' not in text
    assert '4.00 (4.00-4.00)' in text
    assert 'gone: missing: no' in text
    lines = markdown_table('a model', entries, columns).strip().splitlines()
    assert lines[0] == '| a model | CPU s | img/s | x slow |'
    assert lines[1] == '| --- | ---: | ---: | ---: |'
    assert lines[3] == '| fast | 1.0 (1.0-1.0) | 4.0 | 4.00 (4.00-4.00) |'
    assert lines[-1] == '- gone: missing: no'


def test_names_are_kept_in_order_and_unknown_ones_refused_with_a_suggestion():
    assert chosen(None, ['a', 'b'], 'model') == ['a', 'b']
    assert chosen(['b', 'a'], ['a', 'b'], 'model') == ['a', 'b']
    with pytest.raises(
        ConfigError, match=r"unknown model 'mae-vit-x' \(did you mean mae-vit-b\?\); choose from mae-vit-b, tec"
    ):
        chosen(['mae-vit-x'], ['mae-vit-b', 'tec'], 'model')


def test_known_gpus_have_a_peak_and_others_none():
    assert peak_tflops('NVIDIA H100 80GB HBM3') == 989
    assert peak_tflops('NVIDIA H100 PCIe') == 756
    assert peak_tflops('something else') is None


def test_the_machine_and_the_software_are_named():
    found, versions = machine('cpu'), software()
    assert found['cpu']
    assert found['cores'] >= 1
    assert versions['torch'] == torch.__version__.partition('+')[0] or versions['torch'] == torch.__version__
    assert versions['commit']


# ---------------------------------------------------------------- counts
def test_flops_of_a_linear_layer():
    model, data = nn.Linear(6, 7), torch.randn(4, 6, requires_grad=True)
    counted = count_step(lambda: model(data).sum().backward(), images=4)
    products = 2 * 6 * 7  # of one image; backward: for the weights and for the input
    assert counted['flops_per_image'] == 3 * products


def test_attention_is_counted_as_its_products_whatever_kernel_computes_it():
    query = torch.randn(2, 3, 5, 8, requires_grad=True)
    counted = count_step(lambda: nn.functional.scaled_dot_product_attention(query, query, query).sum().backward())
    assert counted['flops_per_image'] == 3 * 2 * (2 * 3 * 5 * 5 * 8 * 2)


def test_calls_are_counted_by_phase_without_views():
    weight, data = torch.ones(3, requires_grad=True), torch.ones(2, 3)
    counted = count_step(lambda: (data.view(6).view(2, 3) * weight).sum().backward())
    assert counted['calls']['forward'] == 2  # mul, sum
    assert counted['calls']['backward'] >= 2
    assert counted['calls']['optimizer'] == 0


@pytest.mark.parametrize(
    ('read', 'count'),
    [
        (lambda x: x.sum().item(), 1),
        (lambda x: bool(x.sum() > 0), 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: x.sum() * 2, 0),
        (lambda x: x[torch.tensor([0, 1])], 0),
    ],
)
def test_what_makes_the_host_wait_is_a_read(read, count):
    assert count_step(lambda: read(torch.ones(3)))['host_reads'] == count


@pytest.mark.parametrize('name', ['loop', 'fused'])
def test_step_counters_of_an_optimizer_are_no_reads(name):
    counted = Linear('none', name, Settings(batch_size=2)).facts()
    assert counted['host_reads'] == 0
    assert counted['calls']['optimizer'] > 0
    # the input asks for no gradient
    assert counted['flops_per_image'] == 2 * 2 * WIDTHS[0] * WIDTHS[1]


def test_a_step_that_reads_its_loss_is_caught():
    assert Linear('none', 'reading', Settings(batch_size=2)).facts()['host_reads'] == 1


def test_the_step_that_reads_least_is_counted():
    seen: list[int] = []

    def logs_every_other_step() -> None:
        seen.append(0)
        if len(seen) % 2:
            torch.ones(1).item()

    assert count_step(logs_every_other_step)['host_reads'] == 0


def test_the_clock_measures_what_it_encloses():
    clock = BlockClock('cpu')
    with clock:
        sum(range(100_000))
    assert set(clock.seconds) == {'wall', 'cpu'}
    assert min(clock.seconds.values()) > 0


# ---------------------------------------------------------------- processes
@pytest.mark.parametrize(
    'start', [FORKING, pytest.param(subprocess, marks=pytest.mark.slow)], ids=['forks', 'processes']
)
def test_implementations_take_turns_and_what_fails_is_a_row(start, tmp_path, monkeypatch):
    monkeypatch.setattr(contest, 'subprocess', start)
    log = tmp_path / 'turns.log'
    names = ['missing', 'first', 'broken', 'reading', 'killed']
    settings = Settings(batch_size=2, warmup=0)
    rows = rows_of(settings, str(log), names, rounds=3, steps=2)
    turns = log.read_text().split()
    assert turns[:12] == ['first', 'first', 'reading', 'reading'] * 3
    assert list(rows) == names
    assert [len(rows[name].blocks) for name in names] == [0, 3, 0, 3, 0]
    assert (rows['missing'].status, rows['missing'].reason) == ('missing', 'it is not here')
    assert rows['broken'].status == 'failed'
    assert 'ValueError: it broke' in rows['broken'].reason
    assert rows['killed'].reason.startswith('the process ended with code 7')
    assert rows['first'].facts['host_reads'] == 0
    assert rows['reading'].facts['host_reads'] == 1
    assert rows['first'].facts['peak_rss_mb'] > 0
    assert rows['first'].note == 'a note'
    assert rows['first'].images == 2


@pytest.mark.parametrize('workers', [0, 4])
def test_the_rate_of_a_loader_is_that_of_its_processes(workers):
    # the images sleep: their rate is known, whatever else the machine does
    loading = Loading(SleepingImages(), torch.stack, Settings(batch_size=1, workers=workers))
    seconds = loading.block(BlockClock('cpu'), steps := enough_steps(None, 4, workers))
    assert seconds['wall'] == pytest.approx(steps * SECONDS / max(workers, 1), rel=0.3)
    assert multiprocessing.active_children() == []


def test_a_loader_process_works_on_one_core():
    before = cv2.getNumThreads(), torch.get_num_threads()
    try:
        set_threads(2)
        loading = Loading(ThreadCounts(), torch.stack, Settings(batch_size=1, workers=1))
        assert next(endless_batches(loading.dataset, loading.collate, loading.settings)).tolist() == [[1, 1]]
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def test_a_process_of_a_benchmark_has_the_threads_that_were_asked_for(forks):
    for count in (1, 2):
        (found,) = rows_of(Settings(threads=count, warmup=0), 'threads', ['threads'], rounds=1, steps=1).values()
        assert found.facts['threads'] == [count, count]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'mallinfo2'), reason='glibc 2.33 tells what is allocated')
def test_the_memory_of_a_step_is_what_it_has_in_use_at_once():
    def peak(megabytes: int, count: int) -> float:
        def step() -> None:
            for _ in range(3):  # what the turn before held is free again
                held = [torch.ones(megabytes, 2**20, dtype=torch.uint8) for _ in range(count)]
                del held

        gc.collect()
        return peak_in_use(step)['in_use_mb']

    none = peak(1, 1) - 1
    assert peak(96, 1) - none == pytest.approx(96, abs=2)
    assert peak(16, 3) - none == pytest.approx(48, abs=2)


def test_a_block_is_long_beside_what_may_lie_ready():
    assert [enough_steps(None, 4, workers) for workers in (0, 1, 8)] == [4, 4, 32]
    assert [enough_steps(1, 4, 0), enough_steps(32, 4, 8)] == [1, 32]
    with pytest.raises(ConfigError, match=r'--steps 31: with 8 loader processes.* needs at least 32 steps'):
        enough_steps(31, 4, 8)


# ---------------------------------------------------------------- scripts
def tables(path: Path) -> dict[str, dict]:
    result = json.loads(path.read_text())
    assert {'benchmark', 'command', 'machine', 'software', 'settings', 'tables'} <= set(result)
    return {table['subject']: {row['implementation']: row for row in table['rows']} for table in result['tables']}


def test_the_step_benchmark(forks, tmp_path):
    names = ['--implementations', 'mmpretrain', 'ours', '--models', 'mocov3-tiny', 'tec-tiny']
    done = call_tool('../benchmarks/step', *names, '--batch-size', 2, '--rounds', 1, '--out', tmp_path / 'a' / 'r.json')
    assert done.code == 0, done.err
    found = tables(tmp_path / 'a' / 'r.json')
    ours, peer = (found['mocov3-tiny'][name] for name in ('ours', 'mmpretrain'))
    assert ours['status'] == peer['status'] == 'measured', (ours['reason'], peer['reason'])
    assert ours['facts']['calls']['forward'] < peer['facts']['calls']['forward']
    assert ours['facts']['host_reads'] < peer['facts']['host_reads']
    assert 0 < ours['facts']['flops_per_image'] <= peer['facts']['flops_per_image']
    assert ours['ratios']['mmpretrain']['median'] == pytest.approx(
        peer['seconds']['cpu']['median'] / ours['seconds']['cpu']['median']
    )
    assert all(0 < row['facts']['in_use_mb'] < row['facts']['peak_rss_mb'] for row in (ours, peer))
    assert found['tec-tiny']['ours']['status'] == 'measured', found['tec-tiny']['ours']['reason']
    assert found['tec-tiny']['mmpretrain']['reason'] == 'mmpretrain has no TEC'


def test_the_loader_benchmark(forks, tmp_path):
    make_photos(tmp_path / 'photos', count=4)
    data = ['--data', tmp_path / 'photos', '--recipes', 'mocov3']
    sizes = ['--batch-size', 2, '--rounds', 1, '--steps', 4, '--workers', 0, 1, '--warmup', 0]
    done = call_tool('../benchmarks/loader', *data, *sizes, '--markdown', '--out', tmp_path / 'r.json')
    assert done.code == 0, done.err
    assert '| mocov3-0 | CPU ms/img |' in done.out
    found = tables(tmp_path / 'r.json')
    assert list(found) == ['mocov3-0', 'mocov3-1']
    for rows in found.values():
        assert [entry['reason'] for entry in rows.values()] == [''] * 9
        batches = {name: entry['facts']['batch'] for name, entry in rows.items()}
        raw, normalized = 'uint8 2x3x224x224', 'float32 2x3x224x224'
        assert batches.pop('ours-fast-device').startswith('uint8 2x3x')  # unfinished, of the recipe's choice of size
        assert batches == {
            'pil': normalized,
            'pil-uint8': raw,
            'mmpretrain': raw,
            'ours': raw,
            'ours-fast-cpu': raw,
            'ours-fast-cpu+preprocessor': normalized,
            'ours-fast-device+preprocessor': normalized,
            'ours-fast-nvjpeg+preprocessor': normalized,
        }


def test_too_few_steps_for_the_loader_processes_are_one_clear_line():
    error = call_tool('../benchmarks/loader', '--workers', '8', '--steps', '4').error()
    assert error.startswith('--steps 4: with 8 loader processes')


def test_the_whole_loop_benchmark(forks, tmp_path):
    make_photos(tmp_path / 'photos', count=4)
    data = ['--data', tmp_path / 'photos', '--models', 'mae-tiny']
    sizes = ['--batch-size', 2, '--steps', 1, '--rounds', 1, '--workers', 0, '--warmup', 0]
    done = call_tool('../benchmarks/end_to_end', *data, *sizes, '--out', tmp_path / 'r.json')
    assert done.code == 0, done.err
    found = tables(tmp_path / 'r.json')['mae-tiny']
    assert list(found) == ['pil', 'mmpretrain', 'ours', 'ours-fast-cpu', 'ours-fast-device', 'ours-fast-nvjpeg']
    for entry in found.values():
        assert entry['status'] == 'measured', entry['reason']
        assert 0 < entry['facts']['waiting_share'] < 1


def test_the_optimizer_benchmark(forks, tmp_path):
    sizes = ['--size', 'tiny', '--steps', 1, '--rounds', 1, '--kinds', 'lars', 'ema']
    done = call_tool('../benchmarks/optimizer', *sizes, '--out', tmp_path / 'r.json')
    assert done.code == 0, done.err
    found = tables(tmp_path / 'r.json')
    for subject in ('lars-tiny', 'ema-tiny'):
        peer, ours = found[subject].values()
        assert peer['facts']['host_reads'] > ours['facts']['host_reads'] == 0
        assert ours['facts']['calls'] < peer['facts']['calls']


def test_a_wrong_name_is_one_clear_line():
    error = call_tool('../benchmarks/step', '--models', 'mae-vit-x').error()
    assert error.startswith("unknown model 'mae-vit-x' (did you mean mae-vit-")


def test_a_place_that_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / 'file').touch()
    error = call_tool('../benchmarks/step', '--models', 'mae-tiny', '--out', tmp_path / 'file' / 'r.json').error()
    assert error.startswith(f'--out {tmp_path}/file/r.json: cannot be written')


def test_photographs_have_the_size_of_the_task(tmp_path):
    files = sorted(make_photos(tmp_path, count=3).rglob('*.jpg'))
    assert len(files) == 3
    for file in files:
        with Image.open(file) as image:
            assert image.size == (500, 400)
            assert image.layer[0][1:3] == (2, 2)  # 4:2:0
