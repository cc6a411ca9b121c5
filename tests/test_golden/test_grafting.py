"""What a graft loads from where, against the authors' start-up code.

Checkpoints are filled with one number per origin, so the origin of every tensor of the model is seen in its values.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from golden_sets import golden, some
from helpers import build, moco_config, vit_config

from mmselfsup_graft.checkpoints import MOCOV3_MODEL, VIT_TIMM, LoadReport, graft_weights

FILE = 'grafting.json'
# fill values; the official ones were 1 and 2, but 1 is also the initial value of norm weights
FILL = {'mae': 5.0, 'cl': 7.0}
BESIDE = 9.0  # tensors of a file that must not be taken: momentum branch, predictor, decoder


class Case(NamedTuple):
    """A case of the file in our terms."""

    model: Any
    report: LoadReport
    expected: dict[str, Any]
    keys: dict[str, list[str]]


def _names() -> list[str]:
    try:
        found = [name for name, case in golden(FILE).items() if isinstance(case, dict) and 'arguments' in case]
    except pytest.fail.Exception:
        found = []
    return found or ['missing']  # the tests below fail on it


def _argument(arguments: list[str], flag: str, default: str = '') -> str:
    return arguments[arguments.index(flag) + 1] if flag in arguments else default


def _tensors(model: Any, keys: list[str], fill: float) -> dict[str, torch.Tensor]:
    """Encoder tensors under official names, in the shapes of ``model``; names it does not know get one entry."""
    shapes = {VIT_TIMM.from_canonical(k): v.shape for k, v in model.backbone.state_dict().items()}
    return {k: torch.full(shapes[k], fill) if k in shapes else torch.full((1,), BESIDE) for k in keys}


def _write(path: Path, model: Any, case: dict[str, Any], is_moco: bool, bare: bool) -> list[str]:
    """Write the checkpoint that a case reads and return its tensor names."""
    everything = golden(FILE)
    if is_moco:
        prefix = everything['moco_checkpoint_keys_prefix']
        inner = _tensors(model, everything['mae_encoder_keys'], FILL['cl'])
        state = {f'{prefix}base_encoder.{k}': v for k, v in inner.items()}
        state |= {k.replace('base_encoder', 'momentum_encoder'): torch.full_like(v, BESIDE) for k, v in state.items()}
        state |= {
            f'{prefix}{k}': torch.full((1,), BESIDE) for k in ('base_encoder.head.0.weight', 'predictor.0.weight')
        }
        torch.save({'epoch': 1, 'arch': 'vit', 'state_dict': state, 'optimizer': {}}, path)
        return list(state)
    keys = everything['mae_full_keys'] if case['unexpected'] else everything['mae_encoder_keys']
    state = _tensors(model, keys, FILL['mae'])
    torch.save(state if bare else {'model': state}, path)
    return keys


def _graft(case: dict[str, Any], folder: Path, model: Any, bare: bool) -> tuple[list[dict], int, dict[str, list[str]]]:
    """Translate the official arguments: our graft, our frozen_layers, tensor names per file."""
    arguments, depth = case['arguments'], golden(FILE)['depth']
    frozen = int(_argument(arguments, '--fixTo', '0'))
    start, end = _argument(arguments, '--graft_pretrained'), _argument(arguments, '--end_pretrained')
    starts_from_cl = case['source']['cls_token'] == 'cl'
    keys = {str(folder / start): _write(folder / start, model, case, starts_from_cl, bare)}
    upper_elsewhere = '--scratch_end' in arguments or '--graft_CL_end' in arguments
    graft: list[dict] = [{'checkpoint': str(folder / start), 'layers': (0, frozen) if upper_elsewhere else None}]
    if '--graft_CL_end' in arguments:
        keys[str(folder / end)] = _write(folder / end, model, case, True, bare)
        graft.append({'checkpoint': str(folder / end), 'layers': (frozen, depth)})
    return graft, frozen, keys


@pytest.fixture(scope='module', params=[(name, bare) for name in _names() for bare in (False, True)])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A model started as the case says; whether MAE's file is a bare dict, which is the same, no key tells."""
    name, bare = request.param
    tmp_path = tmp_path_factory.mktemp('grafts')
    expected = golden(FILE)[name]
    backbone = vit_config(width=8, depth=golden(FILE)['depth'], init='mocov3', stop_grad_patch_embed=True)
    graft, frozen, keys = _graft(expected, tmp_path, build(moco_config(backbone)), bare)
    model = build(moco_config(backbone, graft=graft, frozen_layers=frozen))
    model.init_weights()
    _, report = graft_weights(model.graft, model.backbone.state_dict(), model.depth)
    return Case(model, report, expected, keys)


def _origin(value: torch.Tensor) -> str:
    found = [name for name, fill in FILL.items() if bool((value == fill).all())]
    return found[0] if found else 'kept_initialisation'


def test_origin_of_every_tensor_in_both_encoders(case: Case) -> None:
    state = case.model.state_dict()
    assert case.expected['same_for_momentum_encoder'] is True
    for prefix in ('base_encoder.', 'momentum_encoder.'):
        origins = {n: _origin(state[MOCOV3_MODEL.to_canonical(prefix + n)]) for n in some(case.expected['source'])}
        assert origins == case.expected['source'], prefix
    base = {n: v for n, v in state.items() if n.startswith(('backbone.', 'neck.'))}
    assert all(torch.equal(v, state[f'momentum_encoder.{n}']) for n, v in base.items())
    assert not any((v == BESIDE).any() for v in state.values())


def test_missing_tensors(case: Case) -> None:
    fresh = [f'backbone.{name}' for name in case.report.fresh]
    fresh += [f'neck.{n}' for n in case.model.neck.state_dict() if not n.endswith('num_batches_tracked')]
    official = sorted(MOCOV3_MODEL.from_canonical(n).removeprefix('base_encoder.') for n in fresh)
    assert official == sorted(case.expected['missing'])


def test_every_tensor_of_a_file_is_used_or_reported(case: Case) -> None:
    used = {VIT_TIMM.from_canonical(n): origin for n, origin in case.report.loaded.items()}
    for path, keys in case.keys.items():
        unused = set(case.report.unused[path])
        for key in keys:
            official = key.partition('base_encoder.')[2] or key
            taken = used.get(official) == path and 'momentum_encoder.' not in key
            canonical = VIT_TIMM.to_canonical(official)
            assert taken != (key in unused or canonical in unused), f'{key} of {path}'
        assert set(case.expected['unexpected']) <= unused
    whole = len(case.keys) == 1 and '--scratch_end' not in case.expected['arguments']
    if whole and _origin(case.model.backbone.cls_token) == 'mae':
        assert sorted(case.report.unused[next(iter(case.keys))]) == sorted(case.expected['unexpected'])


def test_trainable_parameters(case: Case) -> None:
    trainable = {
        MOCOV3_MODEL.from_canonical(name).removeprefix('base_encoder.')
        for name, p in case.model.named_parameters()
        if p.requires_grad and name.startswith(('backbone.', 'neck.'))
    }
    assert trainable == set(case.expected['trainable'])
    assert not any(p.requires_grad for p in case.model.momentum_encoder.parameters())
    assert all(p.requires_grad for p in case.model.head.parameters())
