"""Packaging of mmselfsup-graft: requirements come from ``requirements/``, configs and tools travel as a mim plugin."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKAGE = 'mmselfsup_graft'
_EXTRAS = ('fast', 'look', 'export', 'hub', 'dali', 'tests', 'transfer', 'benchmarks', 'docs')
MIM_PARTS = ('configs', 'tools', 'model-index.yml')


def read_version() -> str:
    """Read the version as text, so that packaging never imports the package."""
    text = (ROOT / PACKAGE / 'version.py').read_text(encoding='utf-8')
    match = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if match is None:
        raise RuntimeError(f'no version in {PACKAGE}/version.py')
    return match.group(1)


def read_requirements(name: str) -> list[str]:
    """Return the requirement lines of ``requirements/<name>.txt`` without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith('#')]


def read_description() -> str:
    """Return README.md, or nothing where a source archive was cut down to the code."""
    readme = ROOT / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.is_file() else ''


class BuildWithMim(build_py):
    """Copy configs, tools and the model index into ``<package>/.mim`` of the build folder.

    mim looks for them there in an installed package. The source tree is never written to: an editable install finds
    the originals beside the package.
    """

    def run(self) -> None:
        """Build the package as usual, then add the plugin folder."""
        super().run()
        if not getattr(self, 'editable_mode', False):
            self._copy_mim(Path(self.build_lib) / PACKAGE / '.mim')

    def _copy_mim(self, target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)  # an older build in the same folder may hold renamed configs
        target.mkdir(parents=True)
        for part in MIM_PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, target / part, ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
            elif source.is_file():
                shutil.copy2(source, target / part)


setup(
    name='mmselfsup-graft',
    version=read_version(),
    description='Self-supervised pre-training with the objective chosen per layer, in the style of OpenMMLab',
    long_description=read_description(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='computer vision, self-supervised learning, masked image modeling, contrastive learning',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=[f'{PACKAGE}*']),
    include_package_data=True,
    package_data={PACKAGE: ['py.typed', 'downloads/published.yml']},
    python_requires='>=3.10,<3.13',
    install_requires=read_requirements('base'),
    extras_require={name: read_requirements(name) for name in _EXTRAS},
    cmdclass={'build_py': BuildWithMim},
    entry_points={'console_scripts': [f'graft = {PACKAGE}.cli.graft:console']},
    zip_safe=False,
)
