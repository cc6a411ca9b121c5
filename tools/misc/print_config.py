#!/usr/bin/env python
"""``python tools/misc/print_config.py ...``: the command ``graft config``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a checkout that is not installed

from mmselfsup_graft.cli.misc.print_config import main
from mmselfsup_graft.cli.running import run_tool

if __name__ == '__main__':
    run_tool(main)
