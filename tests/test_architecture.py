"""Rules of the architecture: imports never go up a layer, the lowest stands alone, public things are documented."""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.registry import Registry

from mmselfsup_graft import registry

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'mmselfsup_graft'
LAYERS = (
    {'errors', 'version', 'registry', 'utils', 'ops', 'checkpoints', 'downloads', 'libraries'},
    {'models', 'datasets', 'targets'},
    {'engine'},
    {'evaluation'},
    {'analysis'},
    {'export', 'zoo', 'recipes'},
    {'cli', 'api', 'apis', 'library_files'},
)
PARTS = {'measure', 'plot', 'report', 'hook'}  # of a capability
#: folders with a capability each, whose parts have these names
CAPABILITIES = (f'{PACKAGE}.analysis.', f'{PACKAGE}.engine.nonfinite.', f'{PACKAGE}.recipes.')
#: registries look types up in packages of a higher layer, by name and on first use
LOOKED_UP = {'engine', 'datasets', 'models', 'evaluation', 'analysis'}
MOST_MODULES = 14
REGISTRIES = [each for each in vars(registry).values() if isinstance(each, Registry)]
LAYER_OF = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


SOURCES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob('*.py'))}
MODULES = [name for name, path in SOURCES.items() if path.name != '__init__.py']
TREES = {name: ast.parse(path.read_text(encoding='utf-8')) for name, path in SOURCES.items()}


def imported_names(module: str) -> Iterator[str]:
    """Absolute names of everything a module imports, inside functions too; of ``from x import y`` both x and x.y."""
    is_package = SOURCES[module].name == '__init__.py'
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parents = module.split('.') if is_package else module.split('.')[:-1]
                parents = parents[: len(parents) - node.level + 1]
                base = '.'.join([*parents, base] if base else parents)
            yield base
            yield from (f'{base}.{alias.name}' for alias in node.names)


def own_imports(module: str) -> set[str]:
    """Modules of the package that a module imports; a sub-module counts, not also the package that holds it."""
    known = {name for name in imported_names(module) if name in SOURCES} - {module}
    return {name for name in known if not any(other.startswith(f'{name}.') for other in known)}


def part_of(module: str) -> str:
    return module.split('.')[1] if '.' in module else ''


def public_definitions(module: str) -> Iterator[tuple[str, ast.AST]]:
    definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in TREES[module].body:
        if isinstance(node, definitions) and not node.name.startswith('_'):
            yield node.name, node


@pytest.mark.parametrize('module', sorted(set(SOURCES) - {PACKAGE}))
def test_imports_never_go_up_a_layer(module):
    part = part_of(module)
    assert part in LAYER_OF, f'{part} is in no layer: add it to LAYERS and to docs/architecture.md'
    for name in own_imports(module):
        if part_of(name):
            assert LAYER_OF[part_of(name)] <= LAYER_OF[part], f'{module} imports {name} from a higher layer'


def test_the_package_itself_is_light():
    eager = [node for node in TREES[PACKAGE].body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert {getattr(node, 'module', None) for node in eager} <= {'errors', 'version', 'ops', 'typing'}


def test_registries_import_known_packages():
    located = {name for registry in REGISTRIES for name in registry._locations}
    assert located == {f'{PACKAGE}.{part}' for part in LOOKED_UP}


def test_the_layers_of_the_page_are_these():
    page = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| (\d) \| (`[^|]*`) \|', page, re.MULTILINE)
    assert {int(level) - 1: set(re.findall(r'`(\w+)`', parts)) for level, parts in rows} == dict(enumerate(LAYERS))


def test_folders_are_small():
    assert len(MODULES) > 200
    folders = Counter(module.rpartition('.')[0] for module in MODULES)
    assert not {folder: count for folder, count in folders.items() if count > MOST_MODULES}


def test_module_names_are_unique():
    """Apart from commands, which have the names of their scripts, and the parts of a capability."""
    parts = {module for module in MODULES if module.rpartition('.')[2] in PARTS and module.startswith(CAPABILITIES)}
    names = Counter(module.rpartition('.')[2] for module in MODULES if part_of(module) != 'cli' and module not in parts)
    assert not [name for name, count in names.items() if count > 1 or name in PARTS]


def test_no_two_modules_import_each_other():
    graph = {module: own_imports(module) - {PACKAGE} for module in SOURCES}
    pairs = {tuple(sorted((a, b))) for a, targets in graph.items() for b in targets if a in graph.get(b, ())}
    assert not pairs
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f'import circle: {" -> ".join([*trail, module])}'
        if module not in done:
            for name in graph[module]:
                visit(name, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize('module', sorted(name for name in SOURCES if part_of(name) == 'checkpoints'))
def test_checkpoints_import_no_framework(module):
    allowed = set(sys.stdlib_module_names) | {'torch', 'numpy', 'scipy', 'safetensors'}
    for name in imported_names(module):
        if name.split('.')[0] == PACKAGE:
            assert part_of(name) in ('', 'errors', 'utils', 'checkpoints'), f'{module} imports {name}'
        else:
            assert name.split('.')[0] in allowed, f'{module} imports {name}'


def test_what_the_package_imports_of_the_operators_is_light():
    for module in ('mmselfsup_graft.ops', 'mmselfsup_graft.ops.finder'):
        eager = [node for node in TREES[module].body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = {getattr(node, 'module', None) or node.names[0].name for node in eager}
        assert {name.split('.')[0] for name in names} <= set(sys.stdlib_module_names) | {'finder'}


@pytest.mark.parametrize('module', sorted(SOURCES))
def test_no_assert_statements(module):
    lines = [node.lineno for node in ast.walk(TREES[module]) if isinstance(node, ast.Assert)]
    assert not lines, f'{SOURCES[module]}: raise a GraftError instead of asserting, lines {lines}'


@pytest.mark.parametrize('module', sorted(SOURCES))
def test_every_public_thing_has_a_docstring(module):
    assert ast.get_docstring(TREES[module]), f'{module} has no docstring'
    missing = [name for name, node in public_definitions(module) if not ast.get_docstring(node)]  # type: ignore[arg-type]
    assert not missing, f'{module}: no docstring on {", ".join(missing)}'
