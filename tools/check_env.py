"""Say what is installed, what this machine can do, and the exact command for whatever is missing."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # usable before the package is installed

from mmselfsup_graft.utils.environment import can_pretrain, check_environment, format_report


def main() -> int:
    """Print the report; return 0 when pre-training can run and 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--json', action='store_true', help='print the rows as JSON instead of a table')
    args = parser.parse_args()
    rows = check_environment()
    ready = can_pretrain(rows)
    if args.json:
        print(json.dumps({'can_pretrain': ready, 'rows': [asdict(row) for row in rows]}, indent=2))
    else:
        print(format_report(rows))
    return 0 if ready else 1


if __name__ == '__main__':
    sys.exit(main())
