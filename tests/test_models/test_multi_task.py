"""MultiTask: the sum of what its objectives compute alone, on one encoder that exists once."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_close, build, mae_config, moco_config, multi_task_config, vit_config

from mmselfsup_graft.checkpoints import save_atomically, sincos_table
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models import MultiTask


def _views(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(6, 3, 16, 16, generator=generator, dtype=torch.float64) for _ in range(count)]


def _model(**options: Any) -> MultiTask:
    torch.manual_seed(0)
    model = build(multi_task_config(**options))
    model.init_weights()
    return model.double().train()


def _alone(model: MultiTask, name: str) -> Any:
    """The objective as a model of its own, with the same weights."""
    config = moco_config(vit_config()) if name == 'cl' else mae_config(vit_config())
    alone = build(config).double().train()
    own = {key.removeprefix(f'objectives.{name}.'): value for key, value in model.state_dict().items() if name in key}
    shared = {key: value for key, value in model.state_dict().items() if key.startswith('backbone.')}
    alone.load_state_dict({**own, **shared})
    return alone


def test_losses_and_gradients_are_those_of_the_objectives_alone() -> None:
    model, views = _model(weights=(0.5, 2.0)), _views()
    torch.manual_seed(3)
    losses = model.loss(views)
    assert set(losses) == {'loss_mim', 'loss_cl'}
    total, _ = model.parse_losses(losses)
    total.backward()

    expected = 0.0
    gradients: dict[str, torch.Tensor] = {}
    for name, weight, inputs in (('mim', 0.5, views[2]), ('cl', 2.0, views[:2])):
        alone = _alone(model, name)
        torch.manual_seed(3)
        loss = weight * alone.loss(inputs)['loss']
        assert_close(losses[f'loss_{name}'], loss, rtol=1e-12, name=name)
        expected += loss.item()
        loss.backward()
        for key, parameter in alone.backbone.named_parameters():
            if parameter.grad is not None:
                gradients[key] = gradients.get(key, 0) + parameter.grad
    assert_close(total, expected, rtol=1e-12)
    trained = {key: p for key, p in model.backbone.named_parameters() if p.requires_grad}
    assert set(gradients) == set(trained)
    for key, parameter in trained.items():
        assert_close(parameter.grad, gradients[key], rtol=1e-9, atol=1e-13, name=key)


def test_the_encoder_exists_once() -> None:
    model = _model()
    names = [name for name, _ in model.named_parameters()]
    assert not [name for name in model.state_dict() if '.backbone.' in name and 'momentum_encoder' not in name]
    assert len(names) == len(set(names))
    for objective in model.objectives.values():
        assert objective.backbone is model.backbone
    twin = copy.deepcopy(model)
    assert twin.objectives['cl'].backbone is twin.backbone is not model.backbone
    half = _model().float()
    assert {p.dtype for p in half.parameters()} == {torch.float32}


def test_the_parts_of_the_objectives_are_initialized() -> None:
    model, views = _model().eval(), _views()
    decoder = model.objectives['mim'].neck
    assert torch.equal(decoder.decoder_pos_embed, sincos_table((4, 4), 16, 'mae').double())
    assert 0.01 < decoder.mask_token.std() < 0.04
    prediction, mask = model.objectives['mim'].forward_masked(views[2])
    hidden = prediction[0][mask.mask[0] == 1]
    assert hidden.std(dim=0).mean() > 1e-2  # what is predicted depends on where
    state = model.objectives['cl'].momentum_encoder.backbone.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.backbone.state_dict().items())


def test_weights_survive_saving() -> None:
    first, second = _model(), build(multi_task_config()).double().train()
    second.load_state_dict(first.state_dict())
    values = []
    for model in (first, second):
        torch.manual_seed(1)
        values.append(model.objective_losses(_views()))
    assert {name: float(v) for name, v in values[0].items()} == {name: float(v) for name, v in values[1].items()}


def test_a_graft_reaches_the_momentum_encoder(tmp_path: Path) -> None:
    source = build(mae_config(vit_config()))
    torch.manual_seed(9)
    source.init_weights()
    save_atomically({'state_dict': source.state_dict()}, tmp_path / 'mae.pth')
    model = _model(graft=[dict(checkpoint=str(tmp_path / 'mae.pth'))]).float()
    wanted = source.backbone.state_dict()
    for encoder in (model.backbone, model.objectives['cl'].momentum_encoder.backbone):
        state = encoder.state_dict()
        assert all(torch.equal(state[name], value) for name, value in wanted.items())


def test_frozen_layers_are_frozen_for_every_objective() -> None:
    model = _model(frozen_layers=2)
    sum(model.loss(_views()).values()).backward()
    moved = {model.depth.layer_id(n) for n, p in model.backbone.named_parameters() if p.grad is not None}
    assert moved == {3, 4}
    for encoder in (model.backbone, model.objectives['cl'].momentum_encoder.backbone):
        assert [layer.training for layer in encoder.layers] == [False, False, True]


def test_every_objective_gets_its_views() -> None:
    config, seen = multi_task_config(), {}
    config['objectives']['cl']['views'] = [3, 0]
    model = build(config).train()
    for name, objective in model.objectives.items():
        objective.loss = lambda inputs, name=name: seen.update({name: inputs}) or {'loss': torch.zeros(())}
    views = [torch.full((1,), float(number)) for number in range(4)]
    model.loss(views)
    assert seen['mim'] is views[2]
    assert [each is views[number] for each, number in zip(seen['cl'], (3, 0))] == [True, True]
    with pytest.raises(ConfigError, match=r"objective 'cl' takes views \[3, 0\], the pipeline makes 3"):
        model.loss(views[:3])


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    'one objective': ({'cl': None}, 'two objectives or more'),
    'unknown key': ({'cl': {'weigth': 1.0}}, 'takes model, views, weight'),
    'negative weight': ({'cl': {'weight': -1.0}}, 'negative weight'),
    'no view': ({'cl': {'views': []}}, 'neither a view number'),
    'a name as view': ({'cl': {'views': ['first']}}, 'neither a view number'),
}


@pytest.mark.parametrize(('changes', 'message'), WRONG.values(), ids=WRONG)
def test_bad_objectives_are_refused(changes: dict[str, Any], message: str) -> None:
    config = multi_task_config()
    for name, change in changes.items():
        if change is None:
            del config['objectives'][name]
        else:
            config['objectives'][name].update(change)
    with pytest.raises(ConfigError, match=message):
        build(config)


@pytest.mark.parametrize('key', ['backbone', 'graft', 'frozen_layers'])
def test_what_belongs_to_the_whole_is_refused_in_an_objective(key: str) -> None:
    config = multi_task_config()
    config['objectives']['mim']['model'][key] = 1
    with pytest.raises(ConfigError, match=f'{key} belongs to the whole model'):
        build(config)


def test_a_head_of_the_whole_is_refused() -> None:
    with pytest.raises(ConfigError, match='give head inside'):
        build(multi_task_config(head=dict(type='NTXentHead')))
