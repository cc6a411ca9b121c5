"""The shell tools: usage on wrong calls, and the very command that they start."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / 'tools'
# Stands in for python and for the python of the environment it makes: writes down what pip is asked for.
FAKE_INSTALLER = """#!/bin/sh
case "$*" in
    '-m venv '*) mkdir -p "$3/bin" && touch "$3/pyvenv.cfg" && cp "$0" "$3/bin/python" ;;
    '-m pip install '*) echo "$@ MMCV_WITH_OPS=$MMCV_WITH_OPS" >> "$PIP_CALLS"; exit "${PIP_EXIT:-0}" ;;
    '-m pip --version' | '-c import mmselfsup_graft' | '-c import torch' | '-c import mmcv.ops'*) ;;
    *) exec "$REAL_PYTHON" "$@" ;;
esac
"""
DOWNSTREAM = [(library, job) for library in ('mmdetection', 'mmsegmentation') for job in ('train', 'test')]
FAKE = '#!/bin/sh\nprintf "%s\\n" "$@"\necho "MASTER_PORT=$MASTER_PORT"\n'


def call(script: str, *arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    clean = {key: value for key, value in os.environ.items() if not key.startswith('GRAFT_')}
    clean = {**clean, 'GRAFT_VENV': str(folder / 'no_venv'), **environment}
    command = ['bash', str(TOOLS / script), *arguments]
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)


def _downstream_tail(job: str, launcher: str, *more: str) -> tuple[str, ...]:
    """The tool and its arguments behind a script of ``benchmarks``: trained from, or tested with, ``m.pth``."""
    weights = ('--pretrained', 'm.pth') if job == 'train' else ('m.pth',)
    return (f'{job}.py', '--launcher', launcher, 'c.py', *weights, *more)


def fake(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FAKE)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ('script', 'arguments'),
    [
        ('dist_train.sh', ()),
        ('dist_train.sh', ('config.py',)),
        ('dist_train.sh', ('config.py', 'two')),
        ('dist_train.sh', ('config.py', '0')),
        ('dist_test.sh', ('config.py', 'model.pth')),
        ('dist_test.sh', ('config.py', 'model.pth', 'x')),
        ('dist_finetune.sh', ('config.py', 'model.pth')),
        ('dist_recipe.sh', ('recipe.py',)),
        ('slurm_train.sh', ('partition', 'job', 'config.py')),
        ('slurm_test.sh', ('partition', 'job', 'config.py')),
        ('slurm_finetune.sh', ('partition', 'job', 'config.py')),
        ('slurm_recipe.sh', ('partition', 'job')),
        ('install.sh', ('--what',)),
        *((f'benchmarks/{library}/dist_{job}.sh', ('config.py', 'model.pth', 'x')) for library, job in DOWNSTREAM),
        *((f'benchmarks/{library}/slurm_{job}.sh', ('partition', 'config.py')) for library, job in DOWNSTREAM),
    ],
)
def test_wrong_usage_prints_the_usage_and_leaves_with_two(script, arguments, tmp_path):
    done = call(script, *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert f'Usage: bash tools/{script}' in done.stderr


@pytest.mark.parametrize('script', sorted(str(path.relative_to(TOOLS)) for path in TOOLS.rglob('*.sh')))
def test_every_script_parses(script):
    subprocess.run(['bash', '-n', str(TOOLS / script)], check=True)


@pytest.mark.parametrize(
    ('script', 'arguments', 'tail'),
    [
        ('dist_train.sh', ('c.py', '2', '--resume'), ('train.py', '--launcher', 'pytorch', 'c.py', '--resume')),
        ('dist_test.sh', ('c.py', 'm.pth', '2', '--x'), ('test.py', '--launcher', 'pytorch', 'c.py', 'm.pth', '--x')),
        *(
            (
                f'benchmarks/{library}/dist_{job}.sh',
                ('c.py', 'm.pth', '2', '--x'),
                _downstream_tail(job, 'pytorch', '--x'),
            )
            for library, job in DOWNSTREAM
        ),
        ('dist_recipe.sh', ('r.py', '2', 'a b'), ('run_recipe.py', '--launcher', 'pytorch', 'r.py', 'a b')),
    ],
)
def test_torchrun_gets_the_nodes_and_the_tool_its_arguments(script, arguments, tail, tmp_path):
    python = fake(tmp_path / 'python')
    nodes = {'NNODES': '3', 'NODE_RANK': '1', 'MASTER_ADDR': '10.0.0.7', 'PORT': '29777'}
    done = call(script, *arguments, folder=tmp_path, GRAFT_PYTHON=str(python), **nodes)
    expected = ['-m', 'mmselfsup_graft.cli.torchrun', '--nnodes=3', '--node_rank=1', '--master_addr=10.0.0.7']
    expected += ['--master_port=29777', '--nproc_per_node=2', str(TOOLS / tail[0]), *tail[1:]]
    assert done.stdout.splitlines()[:-1] == expected


def test_one_node_is_the_default_and_the_environment_of_the_checkout_comes_first(tmp_path):
    fake(tmp_path / 'venv' / 'bin' / 'python')
    done = call('dist_train.sh', 'c.py', '1', folder=tmp_path, GRAFT_VENV=str(tmp_path / 'venv'), GRAFT_PYTHON='false')
    assert '--nnodes=1' in done.stdout.splitlines()
    assert '--node_rank=0' in done.stdout.splitlines()


@pytest.mark.parametrize(
    ('script', 'last', 'tail'),
    [
        ('slurm_train.sh', 'work', ['train.py', '--launcher', 'slurm', 'c.py', '--work-dir', 'work', '--amp']),
        ('slurm_test.sh', 'm.pth', ['test.py', '--launcher', 'slurm', 'c.py', 'm.pth', '--amp']),
        ('slurm_finetune.sh', 'm.pth', ['finetune.py', '--launcher', 'slurm', 'c.py', 'm.pth', '--amp']),
        ('slurm_recipe.sh', '--epochs=3', ['run_recipe.py', '--launcher', 'slurm', 'c.py', '--epochs=3', '--amp']),
    ],
)
def test_srun_gets_the_resources_and_the_tool_its_arguments(script, last, tail, tmp_path):
    fake(tmp_path / 'bin' / 'srun')
    search = f'{tmp_path / "bin"}:{os.environ["PATH"]}'
    wish = {'GPUS': '4', 'CPUS_PER_TASK': '3', 'SRUN_ARGS': '--time=1 --qos=low', 'PORT': '29700'}
    arguments = ('part', 'job', 'c.py', last, '--amp')
    done = call(script, *arguments, folder=tmp_path, PATH=search, GRAFT_PYTHON='py', **wish)
    lines = done.stdout.splitlines()
    assert lines[:2] == ['-p', 'part']
    assert {'--job-name=job', '--gres=gpu:4', '--ntasks=4', '--ntasks-per-node=4', '--cpus-per-task=3'} <= set(lines)
    assert lines[-len(tail) - 5 :] == ['--time=1', '--qos=low', 'py', '-u', str(TOOLS / tail[0]), *tail[1:], lines[-1]]
    assert lines[-1] == 'MASTER_PORT=29700'


@pytest.mark.parametrize('script', ['slurm_train.sh', 'benchmarks/mmdetection/slurm_train.sh'])
@pytest.mark.parametrize('name', ['GPUS', 'GPUS_PER_NODE', 'CPUS_PER_TASK', 'PORT'])
@pytest.mark.parametrize('value', ['a[$(touch {})]', '0', '08', '-1', '8 --wrap=x', '9' * 20])
def test_what_is_not_a_number_is_refused_and_never_run(script, name, value, tmp_path):
    fake(tmp_path / 'bin' / 'srun')
    search, marker = f'{tmp_path / "bin"}:{os.environ["PATH"]}', tmp_path / 'executed'
    options = {'PATH': search, 'GRAFT_PYTHON': 'py', name: value.format(marker)}
    done = call(script, 'part', 'job', 'c.py', 'work', folder=tmp_path, **options)
    assert done.returncode == 2
    assert name in done.stderr
    assert not done.stdout
    assert not marker.exists()


def test_more_arguments_for_srun_are_words_and_not_patterns(tmp_path):
    fake(tmp_path / 'bin' / 'srun')
    search, marker = f'{tmp_path / "bin"}:{os.environ["PATH"]}', tmp_path / 'executed'
    wish = {'SRUN_ARGS': f'--a=*\n --b=$(touch {marker}) ?', 'GRAFT_PYTHON': 'py', 'PATH': search}
    done = call('slurm_train.sh', 'part', 'job', 'c.py', 'work', folder=tmp_path, **wish)
    assert ['--a=*', '--b=$(touch', f'{marker})', '?', 'py'] == done.stdout.splitlines()[8:13]
    assert not marker.exists()


@pytest.mark.parametrize('cores', ['a[$(touch {})]', 'many'])
def test_a_strange_number_of_cores_counts_as_one(cores, tmp_path):
    for name, text in {'nproc': f'echo {cores.format(tmp_path / "executed")!r}', 'bash': 'exit 0'}.items():
        path = fake(tmp_path / 'bin' / name)
        path.write_text(f'#!/bin/sh\n{text}\n')
    search = f'{tmp_path / "bin"}:{os.environ["PATH"]}'
    environment = {**os.environ, 'PATH': search, 'GRAFT_VENV': str(tmp_path), 'GRAFT_PYTHON': 'echo'}
    command = ['/bin/bash', str(TOOLS / 'quickstart.sh')]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ['--jobs', '1']
    assert not (tmp_path / 'executed').exists()


@pytest.mark.parametrize(('library', 'job'), DOWNSTREAM)
def test_srun_for_detection_and_segmentation(library, job, tmp_path):
    fake(tmp_path / 'bin' / 'srun')
    search = f'{tmp_path / "bin"}:{os.environ["PATH"]}'
    script = f'benchmarks/{library}/slurm_{job}.sh'
    done = call(script, 'part', 'c.py', 'm.pth', '--x', folder=tmp_path, PATH=search, GRAFT_PYTHON='py')
    lines = done.stdout.splitlines()
    assert {'--job-name=c', '--gres=gpu:8', '--ntasks=8'} <= set(lines)
    tool, *arguments = _downstream_tail(job, 'slurm', '--x')
    assert lines[-len(arguments) - 4 : -1] == ['py', '-u', str(TOOLS / tool), *arguments]


def test_install_refuses_an_unsuitable_interpreter(tmp_path):
    done = call('install.sh', folder=tmp_path, GRAFT_PYTHON='false')
    assert done.returncode == 1
    assert 'is not a working Python 3.10 to 3.12' in done.stderr


def test_install_never_deletes_what_is_not_an_environment(tmp_path):
    precious = tmp_path / 'precious' / 'file'
    precious.parent.mkdir()
    precious.write_text('kept')
    done = call('install.sh', folder=tmp_path, GRAFT_VENV=str(precious.parent), GRAFT_PYTHON=sys.executable)
    assert done.returncode == 1
    assert 'is not a virtual environment' in done.stderr
    assert precious.read_text() == 'kept'


@pytest.fixture
def installer(tmp_path):
    """Call install.sh with a stand-in for python; returns the finished call and how often pip ran so far."""
    python, calls = tmp_path / 'python', tmp_path / 'calls'
    python.write_text(FAKE_INSTALLER)
    python.chmod(0o755)
    calls.touch()

    def install(*arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess, list[str]]:
        known = {'GRAFT_VENV': str(tmp_path / 'venv'), 'GRAFT_PYTHON': str(python), 'PIP_CALLS': str(calls)}
        done = call('install.sh', *arguments, folder=tmp_path, **known, REAL_PYTHON=sys.executable, **environment)
        return done, calls.read_text().splitlines()

    return install


def test_install_asks_pip_for_the_tested_versions_once(installer):
    done, calls = installer('--tests')
    assert done.returncode == 0, done.stderr
    assert f'-c {ROOT}/requirements/constraints.txt -e {ROOT}[fast,tests] MMCV_WITH_OPS=0' in calls[0]
    for arguments in (('--tests',), ()):  # the tests' environment serves the main job as well
        done, calls = installer(*arguments)
        assert 'up to date' in done.stdout
        assert len(calls) == 1


def test_install_adds_detection_and_on_demand_the_compiled_ops(installer, tmp_path):
    done, _ = installer('--tests')
    done, calls = installer('--tests', '--transfer')
    assert done.returncode == 0, done.stderr
    assert f'-e {ROOT}[fast,tests,transfer] MMCV_WITH_OPS=0' in calls[1]
    assert '[ops]' not in done.stdout
    for arguments in (('--tests',), ('--transfer',), ('--transfer', '--tests')):
        done, calls = installer(*arguments)
        assert 'up to date' in done.stdout
        assert len(calls) == 2
    done, calls = installer('--compiled-ops', '--transfer')
    assert f'-e {ROOT}[fast,transfer] MMCV_WITH_OPS=0' in calls[2]
    constraints = (tmp_path / 'venv' / 'graft-constraints.txt').read_text().splitlines()
    assert f'-c {tmp_path}/venv/graft-constraints.txt' in calls[2]
    assert sum(line.startswith('torch==') for line in constraints) == 1  # an older one
    assert 'onedl-mmcv==2.3.6' in constraints
    assert 'the compiled ops of mmcv work already' in done.stdout  # of the stand-in


def test_a_later_install_keeps_the_torch_of_the_compiled_ops(installer, tmp_path):
    installer('--compiled-ops', '--transfer')
    (tmp_path / 'venv' / 'graft-constraints.txt').unlink()
    done, calls = installer('--tests')
    assert done.returncode == 0, done.stderr
    assert f'-c {tmp_path}/venv/graft-constraints.txt -e {ROOT}[fast,tests]' in calls[1]
    older = (ROOT / 'requirements' / 'compiled_ops.txt').read_text()
    assert (tmp_path / 'venv' / 'graft-constraints.txt').read_text().endswith(older)


def test_the_tests_need_more_than_the_main_job(installer):
    installer()
    _, calls = installer('--tests')
    assert [f'-e {ROOT}[fast] ' in calls[0], f'-e {ROOT}[fast,tests] ' in calls[1]] == [True, True]


def test_a_failed_install_is_reported_and_tried_again(installer):
    done, _ = installer(PIP_EXIT='1')
    assert done.returncode == 1
    assert 'pip failed' in done.stderr
    done, calls = installer()
    assert done.returncode == 0
    assert len(calls) == 2


def test_an_interrupted_install_says_so_in_one_line(tmp_path):
    """Ctrl-C reaches the script and what it runs; pip's traceback stays in the log file."""
    python = tmp_path / 'python3'
    slow = 'echo Traceback >&2; echo "$$" > "$PIP_CALLS"; exec sleep 60'
    python.write_text(FAKE_INSTALLER.replace('echo "$@ MMCV_WITH_OPS=$MMCV_WITH_OPS" >> "$PIP_CALLS"', slow))
    python.chmod(0o755)
    calls, venv = tmp_path / 'calls', tmp_path / 'venv'
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith('GRAFT_')},
        **{
            'GRAFT_PYTHON': str(python),
            'GRAFT_VENV': str(venv),
            'PIP_CALLS': str(calls),
            'REAL_PYTHON': sys.executable,
        },
    }
    command = ['bash', str(TOOLS / 'install.sh')]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # tests that run in the background of a shell ignore it, and their children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not calls.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.strip() == '[install] interrupted; run the same command again to continue'
    assert not list(venv.glob('*.stamp'))


def test_an_environment_with_a_broken_interpreter_is_made_anew(installer, tmp_path):
    installer()
    (tmp_path / 'venv' / 'bin' / 'python').write_text('#!/bin/sh\nexit 127\n')
    done, calls = installer()
    assert done.returncode == 0, done.stderr
    assert 'making another one' in done.stdout
    assert len(calls) == 2


# ---------------------------------------------------------------- preempted in a job of sbatch
@pytest.mark.parametrize(
    ('code', 'state', 'requeue', 'expected'),
    [
        (75, 'RUNNING', '1', True),
        (75, 'CANCELLED', '1', False),  # scancel sends the same signal
        (75, 'RUNNING', '0', False),
        (1, 'RUNNING', '1', False),
    ],
)
def test_a_preempted_job_goes_back_into_the_queue(code, state, requeue, expected, tmp_path):
    programs = {
        'srun': f'#!/bin/sh\nexit {code}\n',
        'scontrol': f'#!/bin/sh\ncase "$*" in *show*) echo "JobId=9 JobState={state} X=Y" ;; *) echo "$@" ;; esac\n',
    }
    (tmp_path / 'bin').mkdir()
    for name, text in programs.items():
        (tmp_path / 'bin' / name).write_text(text)
        (tmp_path / 'bin' / name).chmod(0o755)
    search = f'{tmp_path / "bin"}:{os.environ["PATH"]}'
    done = call('slurm_train.sh', 'p', 'j', 'c', 'w', folder=tmp_path, PATH=search, SLURM_JOB_ID='9', REQUEUE=requeue)
    assert done.returncode == code
    assert ('requeue 9' in done.stdout) == expected


def test_a_command_of_a_job_that_is_missing_is_a_failure(tmp_path):
    (tmp_path / 'bin').mkdir()
    for name in ('bash', 'dirname'):  # what the script itself needs; no srun
        (tmp_path / 'bin' / name).symlink_to(shutil.which(name))
    job = {'PATH': str(tmp_path / 'bin'), 'SLURM_JOB_ID': '9', 'REQUEUE': '1', 'GRAFT_PYTHON': 'py'}
    done = call('slurm_train.sh', 'p', 'j', 'c', 'w', folder=tmp_path, **job)
    assert done.returncode == 127
    assert 'srun' in done.stderr


def test_a_signal_to_the_script_of_a_job_reaches_the_command(tmp_path):
    (tmp_path / 'bin').mkdir()
    srun = fake(tmp_path / 'bin' / 'srun')
    srun.write_text('#!/bin/bash\ntrap "exit 3" USR1\ntouch started\nfor _ in {1..600}; do sleep 0.1; done\n')
    variables = {**os.environ, 'PATH': f'{srun.parent}:{os.environ["PATH"]}', 'SLURM_JOB_ID': '9', 'REQUEUE': '1'}
    command = ['bash', str(TOOLS / 'slurm_train.sh'), 'p', 'j', 'c', 'w']
    with subprocess.Popen(command, cwd=tmp_path, env=variables) as script:
        while not (tmp_path / 'started').exists():
            time.sleep(0.05)
        script.send_signal(signal.SIGUSR1)
        assert script.wait(timeout=30) == 3
