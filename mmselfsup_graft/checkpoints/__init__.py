"""Checkpoints as data: depth, formats, safe reading, grafting, conversion. Pure functions, no framework."""

from mmselfsup_graft.utils.files import whole_file

from .conversion.convert_checkpoint import Conversion, convert
from .conversion.targets import TARGETS, Target
from .depth import Depth, convnext_depth, depth_from_names, depth_of, resnet_depth, vit_depth
from .families import TIMM_PREFIX
from .formats.encoder import FORMATS, Encoder, Format, Normalization, read_encoder, to_encoder, unwrap_state_dict
from .formats.rename import MAE_MODEL, MOCO_MODEL, MOCOV3_MODEL, SWAV_MODEL, TEC_MODEL, VIT_TIMM, RenameTable
from .formats.traits import Traits, patch_grid, traits_of
from .graft import GraftSource, LoadReport, graft_weights, parse_graft, plan_graft
from .io import check_destination, check_fit, file_sha256, save_atomically, save_weights
from .pos_embed import resize_position_table, resize_relative_table, sincos_table
from .projector import ProjectorStart, read_projector_start
from .reading.reader import read_checkpoint, read_state

__all__ = [
    'FORMATS',
    'MAE_MODEL',
    'MOCOV3_MODEL',
    'MOCO_MODEL',
    'SWAV_MODEL',
    'TARGETS',
    'TEC_MODEL',
    'TIMM_PREFIX',
    'VIT_TIMM',
    'Conversion',
    'Depth',
    'Encoder',
    'Format',
    'GraftSource',
    'LoadReport',
    'Normalization',
    'ProjectorStart',
    'RenameTable',
    'Target',
    'Traits',
    'check_destination',
    'check_fit',
    'convert',
    'convnext_depth',
    'depth_from_names',
    'depth_of',
    'file_sha256',
    'graft_weights',
    'parse_graft',
    'patch_grid',
    'plan_graft',
    'read_checkpoint',
    'read_encoder',
    'read_projector_start',
    'read_state',
    'resize_position_table',
    'resize_relative_table',
    'resnet_depth',
    'save_atomically',
    'save_weights',
    'sincos_table',
    'to_encoder',
    'traits_of',
    'unwrap_state_dict',
    'vit_depth',
    'whole_file',
]
