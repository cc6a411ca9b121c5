"""The parts of ``benchmarks/gpu.sh``: each in a process of its own under ``timeout``, all results in one JSON file.

Needs nothing but Python, so that it can say what is missing on a bare machine.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from harness.machine import machine, software

ROOT = Path(__file__).resolve().parents[1]
TAIL = 30  # last lines of its output that are kept of a part that failed
_WORKERS = str(min(8, len(os.sched_getaffinity(0))))
_FAST = 'ours ours-fast-device{} ours-fast-nvjpeg{}'


class Part(NamedTuple):
    """One part.

    Attributes:
        name: Its name.
        seconds: Its share of the 8 minutes.
        script: What Python runs.
        on_gpu: Arguments on a GPU.
        on_cpu: Arguments that prove the script on a CPU.
    """

    name: str
    seconds: int
    script: str
    on_gpu: str = ''
    on_cpu: str = ''

    def command(self, device: str, out: Path) -> list[str]:
        """What is run; benchmarks write their tables to ``out``."""
        words = [sys.executable, *self.script.split(), *(self.on_gpu if device == 'cuda' else self.on_cpu).split()]
        return [*words, '--device', device, '--out', str(out)] if self.script.startswith('benchmarks/') else words


# The most important first.
PARTS = (
    Part('environment', 20, 'benchmarks/gpu_parts.py --check'),
    Part('tests', 130, '-m pytest -q --tb=short tests/test_cuda.py'),
    Part(
        'steps',
        150,
        'benchmarks/step.py',
        '--precision bf16 --models mae-vit-b mocov3-vit-b a2mim-r50 --implementations mmpretrain-tuned ours-slow ours '
        '--batch-size 128 --warmup 10 --rounds 3 --steps 10',
        '--precision bf16 --models mae-tiny --implementations ours-slow ours --batch-size 2 --rounds 1',
    ),
    Part(
        'loader',
        60,
        'benchmarks/loader.py',
        f'--recipes mocov3 --workers {_WORKERS} --batch-size 64 --rounds 2 '
        f'--implementations {_FAST.format("+preprocessor", "+preprocessor")}',
        f'--recipes mocov3 --batch-size 2 --rounds 1 --steps 1 --warmup 0 '
        f'--implementations {_FAST.format("+preprocessor", "+preprocessor")}',
    ),
    Part(
        'detector',
        60,
        'benchmarks/detector.py',
        '--precision bf16 --batch-size 4 --warmup 10 --rounds 3 --steps 5',
        '--precision bf16 --models mask-rcnn-tiny --rounds 1',
    ),
    Part(
        'loop',
        50,
        'benchmarks/end_to_end.py',
        f'--precision bf16 --models mae-vit-b --workers {_WORKERS} --batch-size 128 --rounds 1 --warmup 5 '
        f'--implementations {_FAST.format("", "")}',
        f'--models mae-tiny --workers 0 --batch-size 2 --rounds 1 --steps 1 --implementations {_FAST.format("", "")}',
    ),
)


def check(device: str) -> int:
    """Print what is missing and what to install; 0 if nothing is, mmdet aside."""
    code = subprocess.call([sys.executable, str(ROOT / 'tools' / 'check_env.py')])
    if importlib.util.find_spec('pytest') is None:
        print('pytest is missing: bash tools/install.sh --tests --transfer')
        code = 1
    if device == 'cuda' and not _sees_gpu():
        driver = machine('cuda')['gpu'].get('driver_version', 'not found, nvidia-smi must list a GPU')
        print(f'torch sees no GPU. NVIDIA driver: {driver}.')
        print('torch must be built for CUDA, as its wheels for Linux are; into a new GRAFT_VENV: bash tools/install.sh')
        code = 1
    return code


def _sees_gpu() -> bool:
    if importlib.util.find_spec('torch') is None:
        return False
    import torch

    return torch.cuda.is_available()


def run_part(part: Part, device: str) -> dict[str, Any]:
    """Run a part, showing its output.

    Returns:
        ``name``, ``command``, ``status`` (``ok``, ``failed``, ``timed out``), ``exit_code``, ``seconds``, ``limit``,
        ``last_lines``, and ``result`` if it wrote one.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'result.json'
        command = part.command(device, out)
        print(f'\n== {part.name}, at most {part.seconds} s: {" ".join(command)}', flush=True)
        started, lines = time.monotonic(), deque[str](maxlen=TAIL)
        process = subprocess.Popen(
            ['timeout', '-k', '5', str(part.seconds), *command],
            cwd=ROOT,
            env={**os.environ, 'GRAFT_TEST_DEVICE': device},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
        )
        for line in process.stdout or ():
            print(line, end='', flush=True)
            lines.append(line.rstrip())
        code, seconds = process.wait(), round(time.monotonic() - started, 1)
        result = json.loads(out.read_text()) if out.is_file() else None
    late = code in (124, 137) and seconds >= part.seconds
    broken = any(row['status'] == 'failed' for row in _rows(result))
    status = 'timed out' if late else 'failed' if code or broken else 'ok'
    row = {'name': part.name, 'command': command, 'status': status, 'exit_code': code, 'seconds': seconds}
    kept = list(lines) if status != 'ok' else list(lines)[-1:]
    return {**row, 'limit': part.seconds, 'last_lines': kept, **({'result': result} if result else {})}


def _rows(result: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [row for table in (result or {}).get('tables', ()) for row in table['rows']]


def summary(part: dict[str, Any]) -> str:
    """One line: how the part ended, its time, and its rows or its last line."""
    rows = _rows(part.get('result'))
    measured = [f'{sum(row["status"] == "measured" for row in rows)} rows'] if rows else part['last_lines'][-1:]
    others = [f'{r["implementation"]}: {r["status"]}: {r["reason"]}' for r in rows if r['status'] != 'measured']
    time_taken = f'{part["seconds"]:.0f} of {part["limit"]} s'
    return f'{part["name"]:12} {part["status"]:10} {time_taken:>12}  {"; ".join([*measured, *others])[:200]}'


def main() -> int:
    """Run all parts; 1 if one did not end well."""
    parser = argparse.ArgumentParser(prog='benchmarks/gpu.sh')
    parser.add_argument('--device', choices=['cuda', 'cpu'], default='cuda')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs' / 'gpu.json', metavar='FILE.json')
    parser.add_argument('--check', action='store_true', help='say what is missing, and stop')
    args = parser.parse_args()
    if args.check:
        return check(args.device)
    parts: list[dict[str, Any]] = []
    whole = {'benchmark': 'gpu', 'device': args.device, 'machine': machine(args.device), 'software': software()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        parts.append(run_part(part, args.device))
        args.out.write_text(json.dumps({**whole, 'parts': parts}, indent=1) + '\n')
    print('\n' + '\n'.join(map(summary, parts)) + f'\nwritten: {args.out}')
    return int(any(part['status'] != 'ok' for part in parts))


if __name__ == '__main__':
    sys.exit(main())
