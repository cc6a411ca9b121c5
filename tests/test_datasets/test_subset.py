"""Class-balanced parts of a data set."""

import numpy as np
import pytest

from mmselfsup_graft.datasets import Digits, Part, SelfSupDataset
from mmselfsup_graft.datasets.subset import parse_parts, take_parts
from mmselfsup_graft.errors import ConfigError, DataError


def ids(data: SelfSupDataset) -> set[bytes]:
    return {np.asarray(data.get_data_info(i)['img']).tobytes() for i in range(len(data))}


def test_a_share_and_its_rest_make_the_whole() -> None:
    whole = Digits(pipeline=[])
    drawn = Digits(pipeline=[], part=dict(share=0.25, seed=3))
    rest = Digits(pipeline=[], part=dict(share=0.25, seed=3, rest=True))
    assert ids(drawn) | ids(rest) == ids(whole)
    assert len(drawn) + len(rest) == len(whole)
    counts, expected = np.bincount(drawn.labels()), [round(0.25 * n) for n in np.bincount(whole.labels())]
    assert counts.tolist() == expected


def test_the_seed_decides_and_nothing_else() -> None:
    first, again, other = (Digits(pipeline=[], part=dict(share=0.1, seed=seed)) for seed in (0, 0, 1))
    assert ids(first) == ids(again)
    assert ids(first) != ids(other)
    assert np.bincount(first.labels()).tolist() == np.bincount(other.labels()).tolist()


def test_parts_follow_each_other_and_come_before_indices() -> None:
    few = dict(share=0.1)
    sides = [Digits(pipeline=[], part=[few, dict(share=0.5, rest=rest)]) for rest in (False, True)]
    assert ids(sides[0]) | ids(sides[1]) == ids(Digits(pipeline=[], part=few))
    assert not ids(sides[0]) & ids(sides[1])
    assert ids(Digits(pipeline=[], part=few, indices=7)) <= ids(Digits(pipeline=[], part=few))


@pytest.mark.parametrize('part', [dict(share=0), dict(share=1.0), dict(seed=1), dict(share=0.5, of=2), [3]])
def test_malformed_parts_are_refused(part) -> None:
    with pytest.raises(ConfigError, match=r'^part'):
        Digits(pipeline=[], part=part)


def test_labels_are_needed() -> None:
    with pytest.raises(DataError, match=r'Folder: part=.* needs labels'):
        take_parts([{'img_path': 'a.png'}], [Part(0.5)], 'Folder')
    assert parse_parts(None) == []
