"""A report page as one self-contained HTML file."""

from pathlib import Path
from typing import Any

from mmselfsup_graft.analysis.pages.charts import loss_chart, mark, rates_chart
from mmselfsup_graft.analysis.pages.document import as_is, map_values, render, write_html
from mmselfsup_graft.analysis.pages.map_view import neighbor_rows
from mmselfsup_graft.analysis.pages.shown import Embedding

from .content import ReportPage

_TEMPLATES = Path(__file__).parent / 'templates'


def render_page(page: ReportPage) -> str:
    """The page as HTML."""
    return render(
        'page.html',
        _TEMPLATES,
        page=page,
        title=page.title,
        lead=page.summary,
        facts=page.facts,
        losses=[(run, as_is(loss_chart(run))) for run in page.runs if run.losses],
        rates=as_is(rates_chart(page.runs)) if any(run.rates for run in page.runs) else None,
        marks=[(run.name, as_is(mark(series, 8, 8))) for series, run in enumerate(page.runs)],
        shown=None if page.embedding is None else _shown(page.embedding),
    )


def write_page(page: ReportPage, target: Path) -> None:
    """Write the page, see :func:`mmselfsup_graft.analysis.pages.document.write_html`."""
    write_html(render_page(page), target)


def _shown(embedding: Embedding) -> dict[str, Any]:
    return {**map_values(embedding.sample, embedding.representations), 'rows': neighbor_rows(embedding)}
