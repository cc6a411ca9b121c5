"""MAE: what the loss and the encoder see, reconstructions, decoder."""

import math
from typing import Any

import pytest
import torch
from helpers import assert_close, build, mae_config, vit_config

from mmselfsup_graft.checkpoints import sincos_table
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.masking import mask_from_noise, take_tokens


def _model(**kwargs: Any) -> Any:
    model = build(mae_config(**kwargs))
    model.init_weights()
    return model.double().train()


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(3, 3, 16, 16, dtype=torch.float64), torch.rand(3, 16, dtype=torch.float64)


def test_mask_keeps_the_smallest_noise() -> None:
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.3], [0.2, 0.8, 0.4, 0.6]])
    mask = mask_from_noise(noise, 0.5)
    assert mask.keep.tolist() == [[1, 3], [0, 2]]
    assert mask.mask.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]
    shuffled = noise.argsort(1)
    assert torch.equal(shuffled.gather(1, mask.restore), torch.arange(4).expand(2, 4)), 'restore undoes the shuffle'
    assert mask_from_noise(torch.rand(1, 49), 0.75).keep.shape == (1, 12), 'int(L / 4)'


def test_loss_compares_hidden_patches_only() -> None:
    model, (images, noise) = _model(), _batch()
    prediction, mask = model.forward_masked(images, noise)
    target = model.head.construct_target(images)
    by_hand = ((prediction - target) ** 2).mean(-1)[mask.mask == 1].mean()
    assert_close(model.loss(images, noise=noise)['loss'], by_hand, rtol=1e-12)


@torch.no_grad()
def test_encoder_sees_visible_patches_only() -> None:
    model, (images, noise) = _model(), _batch()
    prediction, mask = model.forward_masked(images, noise)
    pixels = model.head.unpatchify(mask.mask[..., None].expand(-1, -1, 48))
    elsewhere = images + 3 * pixels * torch.randn_like(images)
    assert torch.equal(model.forward_masked(elsewhere, noise)[0], prediction)
    visible = images + 3 * (1 - pixels) * torch.randn_like(images)
    assert not torch.allclose(model.forward_masked(visible, noise)[0], prediction)


@pytest.mark.parametrize('norm_pix', [True, False])
def test_perfect_prediction_gives_back_the_image(monkeypatch: pytest.MonkeyPatch, norm_pix: bool) -> None:
    model, (images, noise) = _model(norm_pix=norm_pix), _batch()
    mask, target = mask_from_noise(noise, model.mask_ratio), model.head.construct_target(images)
    monkeypatch.setattr(model.neck, 'predict_all', lambda *_: target)
    monkeypatch.setattr(model.neck, 'forward', lambda *_: take_tokens(target, mask.hidden))
    pictures, hidden = model.reconstruct(images, noise)
    assert_close(pictures, images, rtol=1e-10)
    assert hidden.shape == (3, 1, 16, 16)
    for image in range(3):
        for patch in range(16):
            y, x = divmod(patch, 4)
            square = hidden[image, 0, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
            assert bool((square == mask.mask[image, patch]).all())
    assert model.loss(images, noise=noise)['loss'].item() == pytest.approx(0, abs=1e-20)


def test_targets_are_normalised_per_patch() -> None:
    model, (images, _) = _model(), _batch()
    patch = images[1, :, 4:8, 8:12].permute(1, 2, 0).flatten()  # row 1, column 2 of the patch grid
    expected = (patch - patch.mean()) / (patch.var(unbiased=True) + 1e-6).sqrt()
    assert_close(model.head.construct_target(images)[1, 6], expected, rtol=1e-12)


@pytest.mark.parametrize('ratio', [0.0, 0.02, 0.95, 1.0, -0.5, 1.5])
def test_mask_ratio_that_hides_none_or_all(ratio: float) -> None:
    kept_all_or_none = int(16 * (1 - ratio)) in (0, 16) or not 0 < ratio < 1
    if not kept_all_or_none:
        assert int(16 * (1 - ratio)) == 15
        assert build(mae_config(mask_ratio=ratio)).mask_ratio == ratio
        return
    with pytest.raises(ConfigError, match=f'mask_ratio={ratio}'):
        build(mae_config(mask_ratio=ratio))


def test_one_channel() -> None:
    model = build(mae_config(vit_config(in_channels=1, img_size=28, patch_size=7)))
    model.init_weights()
    loss = model.loss(torch.randn(2, 1, 28, 28))['loss']
    loss.backward()
    assert torch.isfinite(loss)
    assert model.backbone.patch_embed.projection.weight.grad.abs().sum() > 0


def test_random_noise_is_drawn_from_the_seed() -> None:
    model, (images, _) = _model(), _batch()
    torch.manual_seed(3)
    first = model.loss(images)['loss']
    torch.manual_seed(3)
    assert torch.equal(first, model.loss(images)['loss'])
    assert not torch.equal(first, model.loss(images)['loss'])


def test_decoder_table_and_initialisation() -> None:
    model = build(mae_config(decoder_width=32, decoder_depth=2))
    model.init_weights()
    decoder = model.neck
    assert torch.equal(decoder.decoder_pos_embed, sincos_table((4, 4), 32, 'mae'))
    assert not decoder.decoder_pos_embed.requires_grad
    assert 0.01 < decoder.mask_token.std().item() < 0.03
    weight = decoder.decoder_pred.weight
    bound = math.sqrt(6 / sum(weight.shape))
    assert 0.9 * bound < weight.abs().max().item() <= bound
    biases = [p for n, p in decoder.named_parameters() if n.endswith('bias')]
    assert biases
    assert not any(b.any() for b in biases)


def test_a_neck_that_predicts_all_patches_is_refused() -> None:
    config = mae_config()
    config['neck'] = {**config['neck'], 'type': 'mmpretrain.MAEPretrainDecoder'}
    with pytest.raises(ConfigError, match='MAE needs a MAEDecoder as neck, got MAEPretrainDecoder'):
        build(config)


@torch.no_grad()
def test_hidden_patches_are_predicted_as_among_all() -> None:
    model, (images, noise) = _model(), _batch()
    mask = model.draw_mask(images, noise)
    tokens = model.backbone.encode(images, mask.keep)
    everything = take_tokens(model.neck.predict_all(tokens, mask), mask.hidden)
    assert_close(model.neck(tokens, mask), everything, rtol=1e-12)


def test_frozen_lower_part_of_the_reverse_cascade() -> None:
    """CL->MIM grafting: the same freezing on MAE."""
    model = _model(frozen_layers=2)
    images, noise = _batch()
    model.loss(images, noise=noise)['loss'].backward()
    for name, parameter in model.backbone.named_parameters():
        frozen = model.depth.layer_id(name) <= 2
        assert (parameter.grad is None) == (frozen or name == 'pos_embed'), name
