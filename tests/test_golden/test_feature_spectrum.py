"""Spectrum and variance of features against the golden numbers of A2MIM's set."""

import re

import pytest
from golden_sets import golden_file, golden_names, some
from helpers import assert_close, tensor

from mmselfsup_graft.analysis import log_amplitude, relative_log_amplitude, spatial_variance
from mmselfsup_graft.analysis.spectrum.measure import as_maps

METHOD = 'a2mim'


@pytest.mark.parametrize('name', golden_names('features', METHOD))
def test_latents(name: str) -> None:
    """Maps, and tokens without class token."""
    arrays = golden_file(name, METHOD)
    numbers = sorted(int(match[1]) for match in (re.fullmatch(r'latent_(\d+)', key) for key in arrays) if match)
    for number in some(numbers, 'latents'):
        maps = as_maps(tensor(arrays[f'latent_{number}']))
        assert_close(
            relative_log_amplitude(log_amplitude(maps).mean(0)),
            arrays[f'dlogamp_{number}'],
            rtol=1e-5,
            name=f'latent {number}',
        )
        assert_close(spatial_variance(maps).mean(), arrays[f'variance_{number}'], rtol=1e-5, name=f'latent {number}')
