"""Rendezvous of the tasks of a Slurm job."""

import subprocess
from collections.abc import Mapping

from mmselfsup_graft.errors import ConfigError

_NEEDED = ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID', 'SLURM_JOB_ID')
_PORTS = range(12000, 32000)  # below the ephemeral ports


def slurm_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of torchrun for a task of ``srun``: rank, number of processes, address and port of the first one.

    ``MASTER_ADDR`` and ``MASTER_PORT`` are kept if they are set. Else the address is the first node of the step, and
    the port follows from the numbers of job and step, so that jobs on one node use different ports.

    Args:
        variables: The environment of the task.

    Raises:
        ConfigError: If this process is not a task of Slurm, or ``scontrol`` does not list the nodes.
    """
    missing = [name for name in _NEEDED if name not in variables]
    if missing:
        raise ConfigError(f'--launcher slurm needs {missing[0]}, which srun sets: start it with tools/slurm_train.sh')
    job, step = int(variables['SLURM_JOB_ID']), int(variables.get('SLURM_STEP_ID', 0))
    address = variables.get('MASTER_ADDR') or _first_node(variables)
    return {
        'RANK': variables['SLURM_PROCID'],
        'WORLD_SIZE': variables['SLURM_NTASKS'],
        'LOCAL_RANK': variables['SLURM_LOCALID'],
        'MASTER_ADDR': address,
        'MASTER_PORT': variables.get('MASTER_PORT') or str(_PORTS[(31 * job + step) % len(_PORTS)]),
    }


def _first_node(variables: Mapping[str, str]) -> str:
    nodes = variables.get('SLURM_STEP_NODELIST') or variables.get('SLURM_JOB_NODELIST', '')
    try:
        done = subprocess.run(  # nosec B607 # the PATH of a job says where Slurm is
            ['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise ConfigError(
            f'scontrol does not list the nodes of {nodes!r} ({error}); set MASTER_ADDR to the first one'
        ) from error
