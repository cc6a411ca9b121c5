#!/usr/bin/env python
"""``python tools/analysis_tools/get_flops.py ...``: the command ``graft flops``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a checkout that is not installed

from mmselfsup_graft.cli.analysis_tools.get_flops import main
from mmselfsup_graft.cli.running import run_tool

if __name__ == '__main__':
    run_tool(main)
