"""Variables of the environment: a value without meaning is an error, a name that nothing reads is reported."""

import re
from pathlib import Path

import pytest

from mmselfsup_graft.cli.running import _VARIABLES, check_variables
from mmselfsup_graft.downloads.download import Weights, download
from mmselfsup_graft.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_a_misspelled_name(capsys: pytest.CaptureFixture[str]) -> None:
    check_variables({'GRAFT_OFLINE': '1', 'GRAFT_WEIGHTS': 'w', 'HOME': '/'})
    assert capsys.readouterr().err == "warning: nothing reads GRAFT_OFLINE (did you mean 'GRAFT_OFFLINE'?)\n"


def test_values_without_meaning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='GRAFT_MMCV_OPS'):
        check_variables({'GRAFT_MMCV_OPS': 'torchvison'})
    for value in ('', 'torchvision', 'compiled'):
        check_variables({'GRAFT_MMCV_OPS': value})
    monkeypatch.setenv('GRAFT_OFFLINE', 'true')
    with pytest.raises(ConfigError, match='GRAFT_OFFLINE'):
        download(Weights('http://localhost/a.pth', 'a' * 64), tmp_path)


def test_every_variable_is_known() -> None:
    read = set()
    for folder, ending in (('mmselfsup_graft', '*.py'), ('tools', '*.sh'), ('tools', '*.py')):
        for path in (ROOT / folder).rglob(ending):
            read |= set(re.findall(r'\bGRAFT_[A-Z_]*[A-Z]\b', path.read_text()))
    assert read <= set(_VARIABLES)
