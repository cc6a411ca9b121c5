"""Spectrum and variance of features against the golden numbers of A2MIM's set."""

import re

from helpers import assert_close, golden, tensor

from mmselfsup_graft.analysis import log_amplitude, relative_log_amplitude, spatial_variance
from mmselfsup_graft.analysis.feature_spectrum import as_maps

METHOD = 'a2mim'


def test_latents() -> None:
    """Maps, and tokens without class token."""
    arrays = golden('fourier_features.npz', METHOD)
    numbers = sorted(int(match[1]) for match in (re.fullmatch(r'latent_(\d+)', name) for name in arrays) if match)
    assert numbers
    for number in numbers:
        maps = as_maps(tensor(arrays[f'latent_{number}']))
        assert_close(
            relative_log_amplitude(log_amplitude(maps).mean(0)),
            arrays[f'dlogamp_{number}'],
            rtol=1e-5,
            name=f'latent {number}',
        )
        assert_close(spatial_variance(maps).mean(), arrays[f'variance_{number}'], rtol=1e-5, name=f'latent {number}')
