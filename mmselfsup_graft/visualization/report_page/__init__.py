"""One page that shows the outcome of a recipe: what it shows, and how it is drawn."""

from .content import (
    Cell,
    Command,
    Embedding,
    Reconstruction,
    ReportPage,
    Representation,
    Sample,
    Table,
    TableRow,
    TrainingRun,
)
from .page import render_page, write_page

__all__ = [
    'Cell',
    'Command',
    'Embedding',
    'Reconstruction',
    'ReportPage',
    'Representation',
    'Sample',
    'Table',
    'TableRow',
    'TrainingRun',
    'render_page',
    'write_page',
]
