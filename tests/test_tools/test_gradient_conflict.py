"""tools/analysis_tools/gradient_conflict.py: from a checkpoint or a CSV to a picture and a proposal."""

import numpy as np
import pytest
from test_tools.tiny_runs import call_tool, fresh_name, tiny_config, write_config

from mmselfsup_graft.analysis import ConflictProfile
from mmselfsup_graft.analysis.conflict.measure import ConflictRow

TOOL = 'analysis_tools/gradient_conflict'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('multi')
    config = write_config(folder / 'config.py', tiny_config('multi', epochs=1))
    done = call_tool('train', config, '--work-dir', folder / 'run', *fresh_name())
    assert done.code == 0, done.err
    return config, folder / 'run' / 'epoch_1.pth'


def test_a_checkpoint_is_measured_drawn_and_judged(run, tmp_path) -> None:
    config, checkpoint = run
    profiles = []
    for name in ('first', 'second'):
        done = call_tool(TOOL, config, checkpoint, '--batches', 9, '--out-dir', tmp_path / name)
        assert done.code == 0, done.err
        profiles.append(ConflictProfile.read_csv(tmp_path / name / 'gradient_conflict.csv'))
    assert profiles[0] == profiles[1]  # the seed decides everything
    assert len({row.iteration for row in profiles[0].rows}) == 9  # more than the 6 batches of an epoch
    assert len({row.cosine for row in profiles[0].rows if row.group == 'all'}) == 9
    assert (tmp_path / 'first' / 'gradient_conflict_mim_cl.png').stat().st_size > 5000
    assert 'batch 9/9' in done.out
    assert 'blocks.2' in done.out
    assert 'reason: ' in done.out


def test_a_profile_becomes_a_proposal(tmp_path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        ConflictRow(batch, 'mim', 'cl', f'blocks.{block}', mean + 0.05 * rng.standard_normal(), 1.0, 1.0)
        for batch in range(20)
        for block, mean in enumerate([0.1, 0.1, 0.1, 0.1, -0.1, -0.1])
    ]
    ConflictProfile(rows).write_csv(tmp_path / 'measured.csv')
    done = call_tool(TOOL, '--csv', tmp_path / 'measured.csv', '--base-lr', 1.5e-4)
    assert done.code == 0, done.err
    assert 'cut before block 4. Start from the whole encoder of mim' in done.out
    assert 'lr_layer_wise=[1.5e-05, 1.5e-05, 0.00015]' in done.out
    assert (tmp_path / 'measured' / 'gradient_conflict_mim_cl.png').is_file()
    assert (tmp_path / 'measured' / 'gradient_conflict.txt').read_text().strip() in done.out
    done = call_tool(TOOL, '--csv', tmp_path / 'measured.csv', '--lower', 'cl')
    assert 'the whole encoder of cl' in done.out


def test_too_few_batches_are_drawn_without_a_proposal(run, tmp_path) -> None:
    done = call_tool(TOOL, *run, '--batches', 3, '--out-dir', tmp_path)
    assert done.code == 0, done.err
    assert 'no proposal: it takes 2 blocks and 8 batches' in done.out
    assert (tmp_path / 'gradient_conflict_mim_cl.png').is_file()


def test_bad_input(run, tmp_path) -> None:
    config, checkpoint = run
    assert 'give CONFIG and CHECKPOINT' in call_tool(TOOL).error()
    assert 'give CONFIG and CHECKPOINT' in call_tool(TOOL, config).error()
    assert 'give CONFIG and CHECKPOINT' in call_tool(TOOL, config, checkpoint, '--csv', 'x').error()
    assert '--batches must be at least 1' in call_tool(TOOL, config, checkpoint, '--batches', 0).error()
    assert 'not a conflict profile' in call_tool(TOOL, '--csv', tmp_path / 'none.csv').error()
    assert 'does not exist' in call_tool(TOOL, config, tmp_path / 'none.pth').error()
    single = write_config(tmp_path / 'single.py', tiny_config('cl'))
    assert 'MultiTask' in call_tool(TOOL, single, checkpoint).error()
