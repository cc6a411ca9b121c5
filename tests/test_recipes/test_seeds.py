"""Tables of several seeds: means, spreads, and what they prove."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from test_tools.tiny_runs import call_tool

from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.recipes.seeds import evaluate_claim, read_tables, seeds_text

TOOL = 'analysis_tools/compare_seeds'
LGP, CL = [52.0, 53.0, 54.0, 55.0], [51.0, 51.5, 53.0, 52.5]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Four runs; at 1 label LGP is above CL in each, by k-NN sometimes."""
    made = []
    for seed, (lgp, cl) in enumerate(zip(LGP, CL)):
        rows = {
            name: {'few_shot': {'1': {'mean': value}}, 'knn': {'accuracy': 70.0 + (seed + shift) % 2}}
            for name, value, shift in (('LGP', lgp, 0), ('CL', cl, 1))
        }
        content = {'rows': rows, 'protocol': {'few_shot': {'shots': [1, 5]}, 'knn': {}}}
        made.append(tmp_path / f'seed_{seed}')
        made[-1].mkdir()
        (made[-1] / 'table.json').write_text(json.dumps(content))
    return made


def test_values_and_text(folders: list[Path]) -> None:
    table = read_tables(folders)
    assert (table.rows, table.columns) == (['LGP', 'CL'], ['1 label', '5 labels', 'k-NN'])
    np.testing.assert_array_equal(table.of('LGP', '1 label'), LGP)
    assert np.isnan(table.of('CL', '5 labels')).all()
    text = seeds_text(table)
    assert 'over 4 seeds' in text
    assert f'53.5 ± {np.std(LGP, ddof=1):.1f}' in text


@pytest.mark.parametrize('value', ['7', [7.0], {'a': 1}, True, None, 1e300, 2**70, float('inf')])
def test_a_score_that_is_not_one_is_refused(value: object, folders: list[Path]) -> None:
    path = folders[1] / 'table.json'
    content = json.loads(path.read_text())
    content['rows']['CL']['few_shot']['1']['mean'] = value
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r'is not a table of a recipe .* is not a score'):
        read_tables(folders)


def test_rows_of_several_features(folders: list[Path]) -> None:
    """Names may be long and hold commas; what else a row says does not matter."""
    long = 'CL, same contrastive epochs, mean of patches'
    for shift, folder in enumerate(folders):
        content = json.loads((folder / 'table.json').read_text())
        row = {'few_shot': {'1': {'mean': 40.0 + shift}}, 'knn': {'accuracy': 60.0}}
        content['rows'][long] = {**row, 'encoder': 'CL', 'feature': 'patch_mean', 'train_cpu_seconds': 3.0}
        (folder / 'table.json').write_text(json.dumps(content))
    table = read_tables(folders)
    verdict = evaluate_claim(table, f'LGP > {long} @ 1 label')
    assert verdict.difference == pytest.approx(np.mean(LGP) - 41.5)
    assert verdict.verdict == 'holds'
    head, *lines = seeds_text(table).splitlines()[1:]
    assert {len(line) for line in lines} == {len(head)}
    assert f'{long}  ' in lines[2]


def test_fine_tuned_runs_a_folder_per_seed(tmp_path: Path) -> None:
    for seed, accuracy in enumerate([60.0, 62.0]):
        for name, gain in (('a2mim', 3.0), ('random', 0.0)):
            run = tmp_path / f'seed_{seed}' / name
            run.mkdir(parents=True)
            rows = [('linear', 1.0), ('finetune', 2.0), ('finetune', accuracy + gain), ('linear', 3.0)]  # gone on with
            lines = [json.dumps({'protocol': kind, 'result': {'accuracy': value}}) for kind, value in rows]
            (run / 'results.jsonl').write_text('\n'.join(lines) + '\n')
    folders = sorted(tmp_path.iterdir())
    table = read_tables(folders)
    assert (table.rows, table.columns) == (['a2mim', 'random'], ['fine-tuned'])
    np.testing.assert_array_equal(table.of('a2mim', 'fine-tuned'), [63.0, 65.0])
    assert evaluate_claim(table, 'a2mim > random @ fine-tuned').difference == pytest.approx(3.0)
    (folders[1] / 'random' / 'results.jsonl').write_text('{"protocol": "linear"}\n')
    with pytest.raises(DataError, match=r'seed_1/random/results\.jsonl holds no fine-tuning'):
        read_tables(folders)
    (folders[1] / 'random').rename(folders[1] / 'other')
    (folders[1] / 'other' / 'results.jsonl').write_text('{"protocol": "finetune", "result": {"accuracy": 1}}\n')
    with pytest.raises(DataError, match='seed_1 has other rows'):
        read_tables(folders)


def test_verdicts(folders: list[Path]) -> None:
    table = read_tables(folders)
    holds = evaluate_claim(table, 'LGP > CL @ 1 label')
    differences = np.array(LGP) - np.array(CL)
    assert holds.difference == pytest.approx(differences.mean())
    reach = 3.182446 * differences.std(ddof=1) / math.sqrt(4)  # Student's t, 3 degrees of freedom, 97.5 %
    assert holds.interval == pytest.approx((differences.mean() - reach, differences.mean() + reach), rel=1e-5)
    assert holds.verdict == 'holds'
    assert evaluate_claim(table, 'CL > LGP @ 1 label').verdict == 'does not hold'
    assert evaluate_claim(table, 'LGP > CL @ k-NN').verdict == 'undecided'


def test_bad_claims(folders: list[Path]) -> None:
    table = read_tables(folders)
    for claim in ('LGP CL', 'LGP > CL', 'LGP @ 1 label'):
        with pytest.raises(ConfigError, match='write "ROW > OTHER ROW @ COLUMN"'):
            evaluate_claim(table, claim)
    with pytest.raises(ConfigError, match="'MIM' is not in the tables; they have LGP, CL"):
        evaluate_claim(table, 'MIM > CL @ 1 label')
    with pytest.raises(ConfigError, match='two seeds or more'):
        evaluate_claim(read_tables(folders[:1]), 'LGP > CL @ 1 label')


def test_the_tool(folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / 'over_seeds.json'
    done = call_tool(TOOL, *folders, '--claim', 'LGP > CL @ 1 label', '--out', out)
    assert done.code == 0, done.err
    assert 'LGP > CL @ 1 label' in done.out
    assert 'holds' in done.out
    content = json.loads(out.read_text())
    assert content['values']['CL']['1 label'] == CL
    assert content['claims'][0]['verdict'] == 'holds'
    assert str(tmp_path / 'nothing') in call_tool(TOOL, tmp_path / 'nothing').error()


def test_tables_must_fit_together(folders: list[Path]) -> None:
    other = json.loads((folders[1] / 'table.json').read_text())
    del other['rows']['CL']
    (folders[1] / 'table.json').write_text(json.dumps(other))
    with pytest.raises(DataError, match='other rows or columns'):
        read_tables(folders)
