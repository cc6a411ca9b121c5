"""Hooks of mkdocs: pages from files outside of ``docs``, and links of all pages.

Markdown links are written for the repository. Here a link to a file that is a page leads to that page, one to another
file of the repository to its address, ``extra.repository`` of mkdocs.yml; without an address only the text is kept.
"""

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
#: Pages from outside of ``docs``: file of the repository -> page.
OUTSIDE = {
    'README.md': 'index.md',
    'CHANGELOG.md': 'changelog.md',
    'CONTRIBUTING.md': 'contributing.md',
    'SECURITY.md': 'security.md',
    'examples/notebooks/README.md': 'notebooks.md',
    **{
        path.relative_to(ROOT).as_posix(): f'methods/{"-".join(path.relative_to(ROOT / "configs").parent.parts)}.md'
        for path in sorted((ROOT / 'configs').rglob('README.md'))
    },
}
_ORIGIN = {page: origin for origin, page in OUTSIDE.items()}
_LINK = re.compile(r'(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)\)')
_BLOCK = re.compile(r'(^```.*?^```)', re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of ``docs``."""
    for origin, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / origin).read_text(encoding='utf-8')))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page lead to pages and to the repository; code blocks are left as they are."""
    name = page.file.src_uri
    parts = _BLOCK.split(markdown)
    repository = str(config.extra.get('repository') or '')
    return ''.join(part if number % 2 else with_links(part, name, repository) for number, part in enumerate(parts))


def with_links(text: str, page: str, repository: str) -> str:
    """``text`` of a page with the links of the site.

    Raises:
        PluginError: If a link leads to a file that does not exist.
    """
    origin = PurePosixPath(_ORIGIN.get(page, f'docs/{page}'))

    def replaced(match: re.Match[str]) -> str:
        image, label, link = match.groups()
        address, hash_sign, anchor = link.partition('#')
        if not address or re.match(r'[a-z]+:', address):
            return match[0]
        target = os.path.normpath(origin.parent / address)
        if not (ROOT / target).exists():
            raise PluginError(f'{origin}: {link} does not exist')
        place = OUTSIDE.get(target) or (target.removeprefix('docs/') if target.startswith('docs/') else None)
        if place is not None:
            relative = os.path.relpath(place, PurePosixPath(page).parent)
            return f'{image}[{label}]({relative}{hash_sign}{anchor})'
        if repository:
            return f'{image}[{label}]({repository}/blob/HEAD/{target}{hash_sign}{anchor})'
        return label

    return _LINK.sub(replaced, text)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave out the roles of names in docstrings, as in :func:`with_links`."""
    return re.sub(r':(?:attr|class|data|exc|func|meth|mod):(?=<code)', '', html)
