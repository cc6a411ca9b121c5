"""A report page as one self-contained HTML file."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mmselfsup_graft.utils.files import whole_file

from . import map_view as maps
from .charts import loss_chart, mark, rates_chart
from .content import Embedding, ReportPage
from .images import data_uri, is_pixelated
from .palette import DARK, LIGHT, as_css

_TEMPLATES = Path(__file__).parent / 'templates'


def render_page(page: ReportPage) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {'duration': duration, 'data_uri': data_uri}
    environment.tests['pixelated'] = is_pixelated
    return environment.get_template('page.html').render(
        page=page,
        style=_as_is((_TEMPLATES / 'style.css').read_text(encoding='utf-8')),
        light=_as_is(as_css(LIGHT)),
        dark=_as_is(as_css(DARK)),
        losses=[(run, _as_is(loss_chart(run))) for run in page.runs if run.losses],
        rates=_as_is(rates_chart(page.runs)) if any(run.rates for run in page.runs) else None,
        marks=[(run.name, _as_is(mark(series, 8, 8))) for series, run in enumerate(page.runs)],
        shown=None if page.embedding is None else _shown(page.embedding),
    )


def _as_is(text: str) -> Markup:
    """Markup of this package; the charts escape every text in them."""
    return Markup(text)  # nosec B704 # see above


def write_page(page: ReportPage, target: Path) -> None:
    """Write the page as UTF-8, with ``?`` for characters that UTF-8 cannot encode; written atomically."""
    text = render_page(page)
    with whole_file(target) as file:
        # names of files may hold bytes that are not UTF-8, which Python keeps as surrogates
        file.write(text.encode('utf-8', errors='replace'))


def duration(seconds: float) -> str:
    """Duration as text: ``48 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f'{whole} s'
    if whole < 3600:
        return f'{whole // 60} min {whole % 60} s'
    return f'{whole // 3600} h {whole % 3600 // 60} min'


def _shown(embedding: Embedding) -> dict[str, Any]:
    sample = embedding.sample
    return {
        'sheets': maps.make_sheets(sample),
        'size': maps.image_size(sample),
        'legend': maps.legend(sample),
        'maps': [
            (each, maps.points_of(each, sample), maps.tags_of(each, sample)) for each in embedding.representations
        ],
        'rows': maps.neighbor_rows(embedding),
        'pixelated': is_pixelated(sample.images[0]),
    }
