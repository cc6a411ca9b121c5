"""HTML documents: templates with the shared style, written as one self-contained file."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mmselfsup_graft.utils.files import whole_file

from . import map_view as maps
from .images import data_uri, is_pixelated
from .palette import DARK, LIGHT, as_css
from .shown import Representation, Sample

_TEMPLATES = Path(__file__).parent / 'templates'


def render(template: str, folder: Path | None = None, **values: Any) -> str:
    """A template as HTML; it extends ``base.html``, which has style, title, lead and facts.

    Args:
        template: File name.
        folder: Where it and its parts are, besides the shared ones.
        **values: What it shows; text in them is escaped.
    """
    environment = Environment(
        loader=FileSystemLoader([*([folder] if folder else []), _TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {'duration': duration, 'data_uri': data_uri}
    environment.tests['pixelated'] = is_pixelated
    return environment.get_template(template).render(
        style=as_is((_TEMPLATES / 'style.css').read_text(encoding='utf-8')),
        light=as_is(as_css(LIGHT)),
        dark=as_is(as_css(DARK)),
        **values,
    )


def as_is(text: str) -> Markup:
    """Markup of this package, such as charts, which escape every text in them."""
    return Markup(text)  # nosec B704 # see above


def write_html(text: str, target: Path) -> None:
    """Write a page as UTF-8, with ``?`` for characters that UTF-8 cannot encode; written atomically."""
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


def map_values(sample: Sample, representations: tuple[Representation, ...]) -> dict[str, Any]:
    """What ``maps.css`` and ``maps.html`` show: the images as one sheet, the legend, the places on each map."""
    return {
        'sample': sample,
        'sheets': maps.make_sheets(sample),
        'size': maps.image_size(sample),
        'zoom': maps.zoom(sample),
        'legend': maps.legend(sample),
        'maps': [(each, maps.points_of(each, sample), maps.tags_of(each, sample)) for each in representations],
        'pixelated': is_pixelated(sample.images[0]),
    }
