#!/usr/bin/env python
"""``python tools/visualization/attention_maps.py ...``: the command ``graft attention``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a checkout that is not installed

from mmselfsup_graft.cli.running import run_tool
from mmselfsup_graft.cli.visualization.attention_maps import main

if __name__ == '__main__':
    run_tool(main)
