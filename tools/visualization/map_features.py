#!/usr/bin/env python
"""``python tools/visualization/map_features.py ...``: the command ``graft map``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a checkout that is not installed

from mmselfsup_graft.cli.running import run_tool
from mmselfsup_graft.cli.visualization.map_features import main

if __name__ == '__main__':
    run_tool(main)
