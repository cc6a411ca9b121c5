"""Cells of the notebooks, and their execution in this process."""

import json
from pathlib import Path
from typing import Any

import matplotlib

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / 'examples' / 'notebooks').glob('*.ipynb'))


def cells_of(path: Path) -> list[dict[str, Any]]:
    """The cells of a notebook."""
    return json.loads(path.read_text(encoding='utf-8'))['cells']


def tags_of(cell: dict[str, Any]) -> list[str]:
    """The tags of a cell."""
    return cell['metadata'].get('tags', [])


def execute(path: Path, **parameters: Any) -> dict[str, Any]:
    """Run the code of a notebook but its installation, with other values for names of the cell ``parameters``.

    Returns:
        The names of the notebook at its end.
    """
    matplotlib.use('Agg')
    names: dict[str, Any] = {'__name__': '__main__'}
    for number, cell in enumerate(cells_of(path)):
        if cell['cell_type'] == 'code' and 'install' not in tags_of(cell):
            exec(compile(''.join(cell['source']), f'{path.name}, cell {number}', 'exec'), names)
        if 'parameters' in tags_of(cell):
            assert parameters.keys() <= names.keys(), f'{path.name} has no parameter {parameters.keys() - names.keys()}'
            names.update(parameters)
    matplotlib.pyplot.close('all')
    return names
