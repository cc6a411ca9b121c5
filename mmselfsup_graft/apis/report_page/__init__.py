"""The page at the end of a recipe: what it shows is gathered here, drawn in :mod:`visualization.report_page`."""

from .gather import write_report_page

__all__ = ['write_report_page']
