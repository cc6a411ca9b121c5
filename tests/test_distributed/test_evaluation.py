"""Two processes extract the same features and train the same heads as one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import run_ranks, vit_config

WORLD = 2
TRAIN, TEST = 41, 15  # shares of different sizes
PIPELINE = [dict(type='LoadImage', channels=1)]
AUGMENTED = [*PIPELINE, dict(type='mmpretrain.torchvision/RandomResizedCrop', size=16, scale=(0.5, 1.0))]


def section() -> dict[str, Any]:
    """All protocols, on a few digits."""
    pack = [dict(type='mmpretrain.PackInputs')]

    def digits(split: str, count: int, pipeline: list[dict]) -> dict:
        return dict(type='Digits', split=split, img_size=16, indices=count, pipeline=[*pipeline, *pack])

    sweep = dict(scales=[0.1, 1.0], factors=[1.0, 9.0], epochs=2, batch_size=16, add_batch_norm=True)
    return dict(
        train=digits('train', TRAIN, PIPELINE),
        test=digits('test', TEST, PIPELINE),
        augmented=digits('train', TRAIN, AUGMENTED),
        loader=dict(batch_size=7),
        knn=dict(k=[5]),
        logistic=dict(),
        linear=sweep,
    )


def score(folder: str, augment: bool) -> dict[str, Any]:
    """What one process sees: all results, and the features."""
    from mmengine.config import Config

    from mmselfsup_graft.evaluation import extract_features, load_backbone
    from mmselfsup_graft.evaluation.encoders import preprocessor_of
    from mmselfsup_graft.evaluation.scoring import score_checkpoint
    from mmselfsup_graft.registry import DATASETS

    evaluation = section()
    evaluation['linear']['augment'] = augment
    backbone = vit_config(in_channels=1)
    normal = dict(mean=[78.0], std=[81.0], to_rgb=False)
    cfg = Config(dict(model=dict(backbone=backbone), data_preprocessor=normal, evaluation=evaluation))
    scores = score_checkpoint(cfg, None, cache=folder)
    again = score_checkpoint(cfg, None, cache=folder)  # from the cache this time
    dataset = DATASETS.build(evaluation['train'])
    features = extract_features(load_backbone(backbone, None), preprocessor_of(cfg), dataset, 7)
    return {'results': scores.results, 'again': again.results, 'images': scores.images, 'features': features}


def heads() -> dict[str, torch.Tensor]:
    """Weights, running statistics and correct answers after some steps on shares of different sizes."""
    from mmselfsup_graft.evaluation import LinearHeads
    from mmselfsup_graft.evaluation.protocols.linear import CachedBatches, LinearProtocol

    rng = np.random.default_rng(0)
    train = (3 * rng.normal(size=(TRAIN, 6)).astype(np.float32) + 1, rng.integers(0, 4, TRAIN))
    rates, decays = np.array([0.01, 0.1, 1.0]), np.array([0.0, 0.1, 0.01])
    trained = LinearHeads(rates, decays, 6, 4, seed=1, batch_norm=True)
    protocol = LinearProtocol(batch_size=15, epochs=3)
    sizes = []
    for epoch in range(3):
        for batch in CachedBatches(train, protocol)(epoch):
            sizes.append(len(batch.labels))
            trained.step(batch.features, batch.labels, batch.total, protocol.cosine(epoch))
    state = {'weight': trained.weight, 'bias': trained.bias, **trained.norm.state_dict()}
    return {**state, 'sizes': torch.tensor(sizes)}


def refused() -> list[str]:
    """What every process raises if solving or drawing fails on the first one only."""
    from mmengine.config import Config
    from mmengine.dist import barrier, is_main_process

    from mmselfsup_graft.errors import DataError
    from mmselfsup_graft.evaluation import scoring
    from mmselfsup_graft.recipes import report

    def fail(*arguments: Any) -> None:
        if is_main_process():
            raise DataError('only here')

    solve, scoring.score_features = scoring.score_features, fail
    evaluation = scoring.read_evaluation(
        Config(dict(evaluation={**section(), 'linear': {**section()['linear'], 'augment': False}}))
    )
    found = []
    for work in (fail, lambda: scoring.score_pixels(evaluation)):
        try:
            report._agreed(work)
        except DataError as error:
            found.append(str(error))
        barrier()
    scoring.score_features = solve
    return [*found, report._agreed(lambda: 'went well')]


def all_cases(rank: int, folder: str) -> dict[str, Any]:
    """Everything, on this rank."""
    return {
        'heads': heads(),
        'refused': refused(),
        'cached': score(f'{folder}/cached', augment=False),
        'augmented': score(f'{folder}/augmented', augment=True),
    }


@pytest.fixture(scope='module')
def ranks(tmp_path_factory) -> tuple[list[dict[str, Any]], Path]:
    """Results of both processes, and their folder."""
    folder = tmp_path_factory.mktemp('two')
    return run_ranks(all_cases, WORLD, str(folder)), folder


def test_heads(ranks) -> None:
    joined, shares = heads(), [rank['heads'] for rank in ranks[0]]
    assert joined['sizes'].tolist() == (shares[0]['sizes'] + shares[1]['sizes']).tolist()
    assert shares[0]['sizes'].tolist() != shares[1]['sizes'].tolist()
    for share in shares:
        for name in set(joined) - {'sizes', 'num_batches_tracked'}:
            torch.testing.assert_close(share[name], joined[name], rtol=1e-4, atol=1e-6, msg=name)


def test_an_error_of_the_first_process_is_raised_on_all(ranks) -> None:
    assert [rank['refused'] for rank in ranks[0]] == [['only here', 'only here', 'went well']] * WORLD


@pytest.mark.parametrize('name', ['cached', 'augmented'])
def test_scores(name: str, ranks, tmp_path) -> None:
    joined = score(str(tmp_path), augment=name == 'augmented')
    first, second = (rank[name] for rank in ranks[0])
    assert second['results'] == {}  # the first process reports
    assert first['images'] == second['images'] == {'train': TRAIN, 'test': TEST}
    for each in (first, second):
        np.testing.assert_allclose(each['features'][0], joined['features'][0], rtol=1e-4, atol=1e-5)
        assert each['features'][1].tolist() == joined['features'][1].tolist()
    assert first['results'] == first['again']
    assert set(joined['results']) == {'knn', 'logistic', 'linear'}
    for protocol, result in joined['results'].items():
        assert first['results'][protocol]['accuracy'] == pytest.approx(result['accuracy'], abs=1e-9), protocol
    sweeps = first['results']['linear'], joined['results']['linear']
    assert sweeps[0]['accuracies'] == pytest.approx(sweeps[1]['accuracies'], abs=1e-9)
    assert len(list((ranks[1] / name).glob('*.npz'))) == 2
