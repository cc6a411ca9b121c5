"""Every golden file is used by a test: it is of a kind that tests read."""

import pytest
from golden_sets import COMMITTED, KINDS, files_of, golden_folder


@pytest.mark.parametrize('method', KINDS)
def test_every_file_of_the_chosen_set_is_used(method: str) -> None:
    folder = golden_folder(method)
    present = {path for path in folder.glob('*') if path.suffix in ('.npz', '.json')}
    assert present, f'no golden files in {folder}'
    used = {path for kind in KINDS[method].values() for path in files_of(kind, folder)}
    assert present <= used, f'no test uses {sorted(path.name for path in present - used)}'


@pytest.mark.parametrize(('method', 'kind'), [(method, kind) for method, kinds in KINDS.items() for kind in kinds])
def test_there_is_a_file_of_every_kind(method: str, kind: str) -> None:
    for folder in (golden_folder(method), COMMITTED / method):
        assert files_of(KINDS[method][kind], folder), f'no file of the kind {kind} in {folder}'


@pytest.mark.parametrize('method', sorted({method.split('/')[0] for method in KINDS}))
def test_the_committed_set_says_what_its_files_are(method: str) -> None:
    assert (COMMITTED / method / 'README.md').is_file()
