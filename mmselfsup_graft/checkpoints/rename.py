"""Rename tables: one small list of pairs per naming scheme, usable in both directions."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_NUMBER = '{i}'


@dataclass(frozen=True)
class RenameTable:
    """Pairs of name prefixes, (foreign, canonical), tried in order; the first that matches wins.

    A prefix stands for whole dotted components: ``norm`` matches ``norm.weight`` and not ``norm1.weight``. ``{i}``
    stands for a block number and is carried over. Names that no pair matches stay as they are.
    """

    pairs: tuple[tuple[str, str], ...]

    def to_canonical(self, name: str) -> str:
        """Rename one parameter from the foreign scheme to ours."""
        return _rename(name, self.pairs)

    def from_canonical(self, name: str) -> str:
        """Rename one parameter from our scheme to the foreign one."""
        return _rename(name, ((canonical, foreign) for foreign, canonical in self.pairs))


def _rename(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    for source, target in pairs:
        pattern = re.escape(source).replace(re.escape(_NUMBER), r'(\d+)')
        match = re.match(rf'{pattern}(?=\.|$)', name)
        if match:
            number = match[1] if match.groups() else ''
            return target.replace(_NUMBER, number) + name[match.end() :]
    return name


def _timm_block(foreign: str, canonical: str) -> tuple[tuple[str, str], ...]:
    """Pairs for one pre-norm transformer block; attention's ``qkv`` and ``proj`` keep their names."""
    return (
        (f'{foreign}.norm1', f'{canonical}.ln1'),
        (f'{foreign}.norm2', f'{canonical}.ln2'),
        (f'{foreign}.mlp.fc1', f'{canonical}.ffn.layers.0.0'),
        (f'{foreign}.mlp.fc2', f'{canonical}.ffn.layers.1'),
        (foreign, canonical),
    )


# timm's ViT, also used by MAE, MoCo v3, Layer Grafted Pre-training, TEC, iBOT and DINO
VIT_TIMM = RenameTable(
    (
        *_timm_block('blocks.{i}', 'layers.{i}'),
        ('patch_embed.proj', 'patch_embed.projection'),
        ('norm', 'ln1'),
        ('fc_norm', 'ln2'),
    )
)


def _moved(pairs: Iterable[tuple[str, str]], foreign: str, canonical: str) -> tuple[tuple[str, str], ...]:
    """The same pairs below other parents, e.g. ``base_encoder.`` and ``backbone.``."""
    return tuple((foreign + a, canonical + b) for a, b in pairs)


def _sequential_mlp(foreign: str, canonical: str, num_layers: int) -> tuple[tuple[str, str], ...]:
    """Pairs for linear, norm, ReLU, linear, norm ... written as one ``Sequential``: positions 0, 1, 3, 4, 6, 7."""
    return tuple(
        pair
        for i in range(num_layers)
        for pair in ((f'{foreign}.{3 * i}', f'{canonical}.fc{i}'), (f'{foreign}.{3 * i + 1}', f'{canonical}.bn{i}'))
    )


# whole pre-training model: published MAE (encoder and decoder) -> our MAE
MAE_MODEL = RenameTable(
    (
        *_timm_block('decoder_blocks.{i}', 'neck.decoder_blocks.{i}'),
        ('decoder_norm', 'neck.ln1'),
        ('decoder_embed', 'neck.decoder_embed'),
        ('decoder_pos_embed', 'neck.decoder_pos_embed'),
        ('decoder_pred', 'neck.decoder_pred'),
        ('mask_token', 'neck.mask_token'),
        *_moved(VIT_TIMM.pairs, '', 'backbone.'),
        ('cls_token', 'backbone.cls_token'),
        ('pos_embed', 'backbone.pos_embed'),
    )
)

# whole pre-training model: published MoCo v3 or Layer Grafted Pre-training (ViT) -> our MoCoV3; the projector is
# called ``head`` there and lies inside the encoder
MOCOV3_MODEL = RenameTable(
    (
        *_sequential_mlp('base_encoder.head', 'neck', 3),
        *_sequential_mlp('momentum_encoder.head', 'momentum_encoder.neck', 3),
        *_sequential_mlp('predictor', 'head.predictor', 2),
        *_moved(VIT_TIMM.pairs, 'base_encoder.', 'backbone.'),
        *_moved(VIT_TIMM.pairs, 'momentum_encoder.', 'momentum_encoder.backbone.'),
        ('base_encoder', 'backbone'),
        ('momentum_encoder', 'momentum_encoder.backbone'),
    )
)
