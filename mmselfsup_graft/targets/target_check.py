"""The target model of a converted backbone, built to check that it fits."""

import contextlib
import re
from dataclasses import dataclass

from torch import nn

from mmselfsup_graft.checkpoints.conversion.convert_checkpoint import Conversion
from mmselfsup_graft.checkpoints.families import FAMILIES
from mmselfsup_graft.errors import CheckpointError

from .library_models import OTHER_BUILDERS
from .openmmlab_models import MM_BUILDERS
from .target_model import NoTargetModel, TargetModel

_BUILDERS = {**MM_BUILDERS, **OTHER_BUILDERS}


def heads_of(conversion: Conversion) -> tuple[int, bool]:
    """Attention heads of a converted ViT, and whether they are assumed: 64 channels each, or one head."""
    arch = conversion.architecture
    if arch.num_heads:
        return arch.num_heads, False
    return (arch.width // 64 if arch.width % 64 == 0 else 1), True


def target_model_of(conversion: Conversion, num_heads: int | None = None) -> TargetModel:
    """The model of the target that takes the converted backbone.

    Args:
        conversion: The conversion.
        num_heads: Attention heads of a ViT; None uses the value in the file, see :func:`heads_of`.

    Raises:
        NoTargetModel: If its target has no such model.
        CheckpointError: If no model has these shapes.
    """
    arch = conversion.architecture
    builder = _BUILDERS.get((conversion.target.name, arch.family))
    if builder is None:
        raise NoTargetModel(f'no model of {conversion.target.name} to check against')
    if FAMILIES[arch.family].is_vit and not all(arch.img_size):
        raise NoTargetModel('its position table is for images that are not square, and their size is unknown')
    _check_options(conversion)
    try:
        return builder(arch, num_heads or heads_of(conversion)[0], conversion.bare_state)
    except (KeyError, IndexError, StopIteration, ValueError, TypeError, ArithmeticError) as error:
        raise _shapes_error(conversion, error) from error


# (target, family) whose builders take an activation, or the style, strides and dilations of a ResNet
_WITH_ACT = {(target, 'vit') for target in ('mmpretrain', 'mmdet', 'mmseg', 'timm', 'hf')}
_WITH_STYLE = {(target, 'resnet') for target in ('mmpretrain', 'mmdet', 'mmseg')}

_FIXED_EPS = {'convnext': 1e-6, 'swin': 1e-5}  # of the norms of classes whose builders take none
_EQUAL_EPS = 1e-7


def _check_options(conversion: Conversion) -> None:
    """Raise an error if the target's model cannot be built with what the file states beside its tensors."""
    arch, name = conversion.architecture, conversion.target.name
    usual = 'relu' if arch.family == 'resnet' else 'gelu'
    if arch.act not in ('', usual) and (name, arch.family) not in _WITH_ACT:
        raise NoTargetModel(f'no {arch.family} of {name} with {arch.act} as activation')
    if arch.patch_size and conversion.traits.overlapping(arch.patch_size):
        raise NoTargetModel(f'its patches of {arch.patch_size} pixels overlap or leave gaps')
    eps, expected = arch.norm_eps, _FIXED_EPS.get(arch.family, 0.0)
    if expected and eps and abs(eps - expected) > _EQUAL_EPS:
        raise NoTargetModel(f'its norms have eps={eps:g}, those of a {arch.family} of {name} {expected:g}')
    if arch.style == 'caffe' and (name, arch.family) not in _WITH_STYLE:
        raise NoTargetModel(f'no ResNet of {name} with strides in the 1 x 1 convolutions')
    if arch.unusual_stages and (name, arch.family) not in _WITH_STYLE:
        shown = ' and '.join(f'{key}={value}' for key, value in arch.unusual_stages.items())
        raise NoTargetModel(f'no ResNet of {name} with {shown}')


def build_target_model(conversion: Conversion, num_heads: int | None = None) -> nn.Module:
    """Build the model that takes the converted backbone, on the CPU, with fresh weights; see :func:`target_model_of`.

    Raises:
        NoTargetModel: If its library is not installed or it has no such model.
        CheckpointError: If no model has these shapes.
    """
    target_model = target_model_of(conversion, num_heads)
    try:
        return target_model.make()
    except (KeyError, IndexError, StopIteration, ValueError, TypeError, ArithmeticError) as error:
        raise _shapes_error(conversion, error) from error


def _shapes_error(conversion: Conversion, error: Exception) -> CheckpointError:
    return CheckpointError(
        f'no model of {conversion.target.name} has these shapes ({type(error).__name__}: {error}); a damaged file?'
    )


@dataclass(frozen=True)
class Fit:
    """How a converted backbone fits the target model, as lists of names in the target.

    Attributes:
        model: The class that was built.
        missing: Tensors that the model has and the file lacks.
        fresh: Missing tensors that are expected to keep their initial values.
        unexpected: Tensors of the file that the model does not have.
        mismatched: What has another shape there.
    """

    model: str
    missing: list[str]
    fresh: list[str]
    unexpected: list[str]
    mismatched: list[str]

    @property
    def good(self) -> bool:
        """Whether all names and shapes match."""
        return not (self.missing or self.unexpected or self.mismatched)

    def problem(self) -> str:
        """Short description of what does not fit."""
        for names, words in (
            (self.missing, f'{self.model} has {{}} that the file lacks'),
            (self.unexpected, f'{self.model} does not have {{}} of the file'),
            (self.mismatched, f'{{}} have another shape in {self.model}'),
        ):
            if names:
                shown = ', '.join(names[:3]) + (' ...' if len(names) > 3 else '')
                return f'{words.format(f"{len(names)} tensors")} ({shown})'
        return ''


def check_target_model(conversion: Conversion) -> Fit:
    """Load the converted backbone into the target model and compare names and shapes.

    Args:
        conversion: The conversion.

    Raises:
        NoTargetModel: If there is no model to load it into.
    """
    with contextlib.redirect_stdout(None):
        target_model = build_target_model(conversion)
    wanted = target_model.state_dict()
    given = conversion.bare_state
    fresh = conversion.target.families[conversion.architecture.family].fresh
    absent = [name for name in wanted if name not in given and not name.endswith('num_batches_tracked')]
    return Fit(
        model=f'{type(target_model).__module__.partition(".")[0]}.{type(target_model).__name__}',
        missing=[name for name in absent if not re.match(fresh, name)],
        fresh=[name for name in absent if re.match(fresh, name)],
        unexpected=[name for name in given if name not in wanted and conversion.prefix + name not in conversion.head],
        mismatched=[n for n, v in given.items() if n in wanted and wanted[n].shape != v.shape],
    )
