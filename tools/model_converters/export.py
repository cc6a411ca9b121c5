#!/usr/bin/env python
"""``python tools/model_converters/export.py ...``: the command ``graft export``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a checkout that is not installed

from mmselfsup_graft.cli.model_converters.export import main
from mmselfsup_graft.cli.running import run_tool

if __name__ == '__main__':
    run_tool(main)
