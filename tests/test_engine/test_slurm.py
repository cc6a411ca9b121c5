"""The variables of a task of Slurm, on a machine that has none."""

import pytest

from mmselfsup_graft.engine.launching.slurm import slurm_variables
from mmselfsup_graft.errors import ConfigError

TASK = {'SLURM_PROCID': '3', 'SLURM_NTASKS': '4', 'SLURM_LOCALID': '1', 'SLURM_JOB_ID': '17', 'SLURM_STEP_ID': '2'}


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A ``scontrol`` that expands ``node[7-8]``, and nothing else."""
    program = tmp_path / 'scontrol'
    program.write_text('#!/bin/sh\n[ "$*" = "show hostnames node[7-8]" ] && printf "node7\\nnode8\\n"\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:/bin:/usr/bin')


def test_a_task_knows_its_rank_and_the_first_node_of_its_step(scontrol):
    found = slurm_variables({**TASK, 'SLURM_STEP_NODELIST': 'node[7-8]', 'SLURM_JOB_NODELIST': 'node[1-8]'})
    port = int(found.pop('MASTER_PORT'))
    assert found == {'RANK': '3', 'WORLD_SIZE': '4', 'LOCAL_RANK': '1', 'MASTER_ADDR': 'node7'}
    ports = {port}
    for job, step in ((17, 3), (18, 2)):
        other = {**TASK, 'SLURM_JOB_ID': str(job), 'SLURM_STEP_ID': str(step), 'MASTER_ADDR': 'x'}
        ports.add(int(slurm_variables(other)['MASTER_PORT']))
    assert len(ports) == 3
    assert all(1024 < each < 32768 for each in ports)


def test_what_is_set_is_kept():
    found = slurm_variables({**TASK, 'MASTER_ADDR': '10.0.0.1', 'MASTER_PORT': '29500'})
    assert (found['MASTER_ADDR'], found['MASTER_PORT']) == ('10.0.0.1', '29500')


def test_outside_of_slurm_it_says_how_to_start(scontrol):
    with pytest.raises(ConfigError, match='needs SLURM_PROCID, which srun sets'):
        slurm_variables({})
    with pytest.raises(ConfigError, match=r'scontrol does not list the nodes of .unknown'):
        slurm_variables({**TASK, 'SLURM_STEP_NODELIST': 'unknown'})
