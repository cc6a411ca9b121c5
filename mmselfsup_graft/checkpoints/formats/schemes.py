"""Naming schemes as data: how a library names the tensors of a family of backbones. Formats and targets share them."""

from dataclasses import dataclass

from mmselfsup_graft.checkpoints.families import FAMILIES
from mmselfsup_graft.checkpoints.tokens import merge_class_row

from .computed import Step, join_qkv, name_layer_scale, split_qkv, split_qv_bias, take_timm_model
from .computed_stages import (
    number_final_norm,
    scale_to_map,
    scale_to_vector,
    swin_merge_from_mm,
    swin_merge_to_mm,
    unnumber_final_norm,
)
from .rename import (
    CONVNEXT_OFFICIAL,
    CONVNEXT_TIMM,
    CONVNEXT_TORCHVISION,
    DINOV2_HUGGINGFACE,
    SWIN_OFFICIAL,
    VIT_HUGGINGFACE,
    VIT_MMSEG,
    VIT_MMSEG_MAE,
    VIT_TIMM,
    RenameTable,
)

_SAME_NAMES = RenameTable(())


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How a library names the tensors of a family of backbones.

    Args:
        marks: Regular expressions (searched at the start of a name, prefix removed); all must be found.
        table: Names there -> canonical names.
        read: Computations after renaming to canonical names.
        write: Computations before renaming to the names there.
    """

    marks: tuple[str, ...] = ()
    table: RenameTable = _SAME_NAMES
    read: tuple[Step, ...] = ()
    write: tuple[Step, ...] = ()


#: mmpretrain's names, of all families
CANONICAL = Scheme(
    marks=('|'.join(family.mark for name, family in FAMILIES.items() if name != 'beit'),),  # which has a ViT's as well
    read=(name_layer_scale, split_qv_bias),
)
RESNET = Scheme(marks=(FAMILIES['resnet'].mark,))
_TIMM_BLOCK = r'blocks\.0\.attn\.qkv\.weight'
TIMM_VIT = Scheme(
    marks=(_TIMM_BLOCK, r'patch_embed\.proj\.weight'),
    table=VIT_TIMM,
    read=(name_layer_scale,),
    write=(merge_class_row,),
)
#: a ViT with MoCo v3's convolutional stem
CONV_STEM_VIT = Scheme(marks=(_TIMM_BLOCK, r'patch_embed\.proj\.0\.weight'), table=VIT_TIMM)
MMSEG_VIT = Scheme(marks=(r'layers\.0\.attn\.attn\.in_proj_weight',), table=VIT_MMSEG)
MMSEG_MAE = Scheme(table=VIT_MMSEG_MAE)
HUGGINGFACE = Scheme(
    marks=(r'encoder\.layer\.0\.attention\.attention\.query\.weight',),
    table=VIT_HUGGINGFACE,
    read=(join_qkv,),
    write=(split_qkv,),
)
HUGGINGFACE_DINOV2 = Scheme(table=DINOV2_HUGGINGFACE, write=(split_qkv,))
SWIN = Scheme(
    marks=(r'layers\.0\.blocks\.0\.attn\.relative_position_bias_table',),
    table=SWIN_OFFICIAL,
    read=(swin_merge_to_mm, number_final_norm),
    write=(swin_merge_from_mm, unnumber_final_norm),
)
CONVNEXT = Scheme(
    marks=(r'stages\.0\.0\.dwconv\.',),
    table=CONVNEXT_OFFICIAL,
    read=(number_final_norm,),
    write=(unnumber_final_norm,),
)
#: a backbone that holds a model of timm
TIMM_MODEL = Scheme(write=(take_timm_model,))
TIMM_CONVNEXT = Scheme(marks=(r'stages\.0\.blocks\.0\.conv_dw\.',), table=CONVNEXT_TIMM)
TORCHVISION_CONVNEXT = Scheme(
    marks=(r'features\.1\.0\.block\.0\.weight',),
    table=CONVNEXT_TORCHVISION,
    read=(scale_to_vector,),
    write=(scale_to_map,),
)
