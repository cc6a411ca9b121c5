"""Rename tables: one small list of pairs per naming scheme, usable in both directions."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class RenameTable:
    """Pairs of name prefixes, (foreign, canonical), tried in order; the first that matches wins.

    A prefix matches whole dotted components: ``norm`` matches ``norm.weight`` and not ``norm1.weight``. ``{i}`` and
    ``{j}`` match numbers (of a stage, a block) and are copied. Names without a match are not changed.
    """

    pairs: tuple[tuple[str, str], ...]

    def to_canonical(self, name: str) -> str:
        """Return the canonical name of a parameter."""
        return _rename(name, self.pairs)

    def from_canonical(self, name: str) -> str:
        """Return the foreign name of a parameter."""
        return _rename(name, ((canonical, foreign) for foreign, canonical in self.pairs))


@cache
def _pattern(prefix: str) -> re.Pattern[str]:
    number = re.sub(r'\\{([ij])\\}', r'(?P<\1>\\d+)', re.escape(prefix))
    return re.compile(rf'{number}(?=\.|$)')


def _rename(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    for source, target in pairs:
        match = _pattern(source).match(name)
        if match:
            return target.format(**match.groupdict()) + name[match.end() :]
    return name


def grouped_names(names: Iterable[str], depth: int = 1, most: int | None = None) -> str:
    """Names counted by their first components: ``encoder_k (320), queue (1)``.

    Args:
        names: Dotted names.
        depth: Number of components that form a group.
        most: Largest number of groups to show.
    """
    groups = Counter('.'.join(name.split('.')[:depth]) for name in names)
    shown = [f'{group} ({count})' for group, count in groups.items()][:most]
    return ', '.join(shown) + (', ...' if len(shown) < len(groups) else '')


# ---------------------------------------------------------------- vision transformers
def _timm_block(foreign: str, canonical: str) -> tuple[tuple[str, str], ...]:
    """Pairs for one pre-norm transformer block; attention's ``qkv`` and ``proj`` keep their names."""
    return (
        (f'{foreign}.norm1', f'{canonical}.ln1'),
        (f'{foreign}.norm2', f'{canonical}.ln2'),
        (f'{foreign}.mlp.fc1', f'{canonical}.ffn.layers.0.0'),
        (f'{foreign}.mlp.fc2', f'{canonical}.ffn.layers.1'),
        (f'{foreign}.mlp.w12', f'{canonical}.ffn.w12'),
        (f'{foreign}.mlp.w3', f'{canonical}.ffn.w3'),
        (f'{foreign}.ls1.gamma', f'{canonical}.attn.gamma1.weight'),
        (f'{foreign}.ls2.gamma', f'{canonical}.ffn.gamma2.weight'),
        (foreign, canonical),
    )


# timm's ViT, also used by MAE, MoCo v3, Layer Grafted Pre-training, TEC, iBOT, DINO and SimMIM
VIT_TIMM = RenameTable(
    (
        *_timm_block('blocks.{i}', 'layers.{i}'),
        ('patch_embed.proj', 'patch_embed.projection'),
        ('norm', 'ln1'),
        ('fc_norm', 'ln2'),
        ('norm_pre', 'pre_norm'),
        ('reg_token', 'register_tokens'),
    )
)

# mmsegmentation's VisionTransformer, whose attention is torch's own
VIT_MMSEG = RenameTable(
    (
        ('layers.{i}.attn.attn.in_proj_weight', 'layers.{i}.attn.qkv.weight'),
        ('layers.{i}.attn.attn.in_proj_bias', 'layers.{i}.attn.qkv.bias'),
        ('layers.{i}.attn.attn.out_proj', 'layers.{i}.attn.proj'),
    )
)

# mmsegmentation's MAE where it holds a plain ViT with layer scale
VIT_MMSEG_MAE = RenameTable(
    (
        ('layers.{i}.gamma_1', 'layers.{i}.attn.gamma1.weight'),
        ('layers.{i}.gamma_2', 'layers.{i}.ffn.gamma2.weight'),
    )
)

# common to ViTModel and Dinov2Model of Hugging Face transformers; query, key and value in three tensors
_HUGGINGFACE = (
    ('embeddings.cls_token', 'cls_token'),
    ('embeddings.position_embeddings', 'pos_embed'),
    ('embeddings.patch_embeddings.projection', 'patch_embed.projection'),
    *((f'encoder.layer.{{i}}.attention.attention.{x}', f'layers.{{i}}.attn.{x}') for x in ('query', 'key', 'value')),
    ('encoder.layer.{i}.attention.output.dense', 'layers.{i}.attn.proj'),
    ('layernorm', 'ln1'),
)
_HUGGINGFACE_VIT = (
    ('encoder.layer.{i}.intermediate.dense', 'layers.{i}.ffn.layers.0.0'),
    ('encoder.layer.{i}.output.dense', 'layers.{i}.ffn.layers.1'),
    ('encoder.layer.{i}.layernorm_before', 'layers.{i}.ln1'),
    ('encoder.layer.{i}.layernorm_after', 'layers.{i}.ln2'),
)
_HUGGINGFACE_DINOV2 = (
    ('embeddings.register_tokens', 'register_tokens'),
    ('encoder.layer.{i}.mlp.fc1', 'layers.{i}.ffn.layers.0.0'),
    ('encoder.layer.{i}.mlp.fc2', 'layers.{i}.ffn.layers.1'),
    ('encoder.layer.{i}.mlp.weights_in', 'layers.{i}.ffn.w12'),
    ('encoder.layer.{i}.mlp.weights_out', 'layers.{i}.ffn.w3'),
    ('encoder.layer.{i}.norm1', 'layers.{i}.ln1'),
    ('encoder.layer.{i}.norm2', 'layers.{i}.ln2'),
    ('encoder.layer.{i}.layer_scale1.lambda1', 'layers.{i}.attn.gamma1.weight'),
    ('encoder.layer.{i}.layer_scale2.lambda1', 'layers.{i}.ffn.gamma2.weight'),
)
# ViTModel, ViTMAEModel, Dinov2Model and Dinov2WithRegistersModel; the target is ViTModel
VIT_HUGGINGFACE = RenameTable((*_HUGGINGFACE, *_HUGGINGFACE_VIT, *_HUGGINGFACE_DINOV2))
# the target is Dinov2Model and Dinov2WithRegistersModel
DINOV2_HUGGINGFACE = RenameTable((*_HUGGINGFACE, *_HUGGINGFACE_DINOV2))

# ---------------------------------------------------------------- Swin and ConvNeXt
# the release of Swin Transformer, also used by SimMIM; here as in ConvNeXt's release the last norm has no number
SWIN_OFFICIAL = RenameTable(
    (
        ('layers.{i}.blocks.{j}.attn', 'stages.{i}.blocks.{j}.attn.w_msa'),
        ('layers.{i}.blocks.{j}.mlp.fc1', 'stages.{i}.blocks.{j}.ffn.layers.0.0'),
        ('layers.{i}.blocks.{j}.mlp.fc2', 'stages.{i}.blocks.{j}.ffn.layers.1'),
        ('layers.{i}', 'stages.{i}'),
        ('patch_embed.proj', 'patch_embed.projection'),
    )
)

CONVNEXT_OFFICIAL = RenameTable(
    (
        ('stages.{i}.{j}.dwconv', 'stages.{i}.{j}.depthwise_conv'),
        ('stages.{i}.{j}.pwconv1', 'stages.{i}.{j}.pointwise_conv1'),
        ('stages.{i}.{j}.pwconv2', 'stages.{i}.{j}.pointwise_conv2'),
    )
)

CONVNEXT_TIMM = RenameTable(
    (
        ('stages.{i}.blocks.{j}.conv_dw', 'stages.{i}.{j}.depthwise_conv'),
        ('stages.{i}.blocks.{j}.mlp.fc1', 'stages.{i}.{j}.pointwise_conv1'),
        ('stages.{i}.blocks.{j}.mlp.fc2', 'stages.{i}.{j}.pointwise_conv2'),
        ('stages.{i}.blocks.{j}', 'stages.{i}.{j}'),
        ('stem', 'downsample_layers.0'),
        ('stages.{i}.downsample', 'downsample_layers.{i}'),
        ('head.norm', 'norm3'),
    )
)

# torchvision counts the stem, the stages and the layers between them in one list
CONVNEXT_TORCHVISION = RenameTable(
    (
        *(
            (f'features.{2 * i + 1}.{{j}}.{foreign}', f'stages.{i}.{{j}}.{canonical}')
            for i in range(4)
            for foreign, canonical in (
                ('block.0', 'depthwise_conv'),
                ('block.2', 'norm'),
                ('block.3', 'pointwise_conv1'),
                ('block.5', 'pointwise_conv2'),
                ('layer_scale', 'gamma'),
            )
        ),
        *((f'features.{2 * i}', f'downsample_layers.{i}') for i in range(4)),
        ('classifier.0', 'norm3'),
    )
)


# ---------------------------------------------------------------- whole pre-training models
def _moved(pairs: Iterable[tuple[str, str]], foreign: str, canonical: str) -> tuple[tuple[str, str], ...]:
    """The same pairs with other parent modules, e.g. ``base_encoder.`` and ``backbone.``."""
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

# whole pre-training model: published MoCo v1 and v2 (without ``module.``) -> our MoCo. Its optimizer has
# one group of both encoders, and momentum for the first alone; ours has only that one, in the same order
MOCO_MODEL = RenameTable(
    (
        *(
            pair
            for theirs, ours in (('encoder_q', ''), ('encoder_k', 'momentum_encoder.'))
            for pair in (
                (f'{theirs}.fc.{{i}}', f'{ours}neck.mlp.{{i}}'),
                (f'{theirs}.fc', f'{ours}neck.fc'),
                (theirs, f'{ours}backbone'),
            )
        ),
        *((name, f'key_queue.{name}') for name in ('queue', 'queue_ptr')),
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

# whole pre-training model: published TEC (student alone, as its files hold it) -> our TEC
TEC_MODEL = RenameTable(
    (
        ('encoder_adaptor.adap_before', 'neck.adaptor.norm_before'),
        ('encoder_adaptor.fuse_fcs', 'neck.adaptor.fuse'),
        ('encoder_adaptor.adap_mlps', 'neck.adaptor.mlps'),
        ('encoder_adaptor.adap_after', 'neck.adaptor.norm_after'),
        *(
            pair
            for theirs, ours, last in (('fea', 'feature', 'pred'), ('att', 'attention', 'qk'))
            for pair in (
                (f'forward_{theirs}_decoder.decoder_embed', f'neck.{ours}.embed'),
                (f'forward_{theirs}_decoder.mask_token', f'neck.{ours}.mask_token'),
                (f'forward_{theirs}_decoder.decoder_norm', f'neck.{ours}.norm'),
                (f'forward_{theirs}_decoder.decoder_{last}', f'neck.{ours}.head'),
            )
        ),
        *_timm_block('decoder_blocks.{i}', 'neck.blocks.{i}'),
        ('decoder_pos_embed', 'neck.pos_embed'),
        *_moved(VIT_TIMM.pairs, '', 'backbone.'),
        *((name, f'backbone.{name}') for name in ('cls_token', 'cls_token_mlp', 'pos_embed')),
    )
)

# SwAV's model on a ResNet, with a projector of two layers or of one, without the ``module.`` of its files
SWAV_MODEL = RenameTable(
    (
        ('projection_head.0', 'neck.fc0'),
        ('projection_head.1', 'neck.bn0'),
        ('projection_head.3', 'neck.fc1'),
        ('projection_head', 'neck.fc'),
        ('prototypes', 'head.prototypes'),
        ('conv1', 'backbone.conv1'),
        ('bn1', 'backbone.bn1'),
        ('layer{i}', 'backbone.layer{i}'),
    )
)
