"""Files of a hub repository in the layout of timm, of transformers or of this toolbox."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from mmselfsup_graft.checkpoints.conversion.classifier_head import with_classifier
from mmselfsup_graft.checkpoints.conversion.convert_checkpoint import Conversion
from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.export.source_model import SourceModel
from mmselfsup_graft.targets.target_check import build_target_model, check_target_model, target_model_of
from mmselfsup_graft.targets.target_model import NoTargetModel, need
from mmselfsup_graft.targets.timm_entry import timm_entry
from mmselfsup_graft.version import __version__

OWN = 'mmselfsup_graft'
#: library -> target of the conversion; the first that has a model of the shape is taken
LIBRARIES = {'timm': 'timm', 'transformers': 'hf', OWN: 'mmpretrain'}


@dataclass(frozen=True)
class Layout:
    """Content of a repository besides its card.

    Attributes:
        library: Key of :data:`LIBRARIES`, the ``library_name`` of the hub.
        conversion: The tensors.
        config: ``config.json``.
        images: ``preprocessor_config.json``, if there is one.
    """

    library: str
    conversion: Conversion
    config: dict[str, Any]
    images: dict[str, Any] | None = None


def layout_of(model: SourceModel, library: str | None = None) -> Layout:
    """The layout of a library.

    Args:
        model: What is shared.
        library: Key of :data:`LIBRARIES`; None takes the first that has such a model.

    Raises:
        CheckpointError: If no library, or not that one, has a model of this shape with this feature.
    """
    if library is not None and library not in LIBRARIES:
        raise CheckpointError(f'library is {library!r}; choose from {", ".join(LIBRARIES)}')
    reasons = []
    for name in LIBRARIES if library is None else [library]:
        try:
            return _LAYOUTS[name](model)
        except (NoTargetModel, CheckpointError) as reason:
            reasons.append(f'{name}: {reason}')
    raise CheckpointError(f'{model.path} cannot be shared: {"; ".join(reasons)}')


def _converted(model: SourceModel, target: str) -> Conversion:
    """The encoder, with its classifier if there is one, and all that is known about it."""
    done = model.converted(target)
    traits = replace(done.traits, img_size=model.size, mean=model.mean, std=model.std, feature=model.feature)
    done = replace(done, traits=traits, architecture=replace(done.architecture, feature=model.feature))
    if model.classifier is not None:
        done = with_classifier(done, model.classifier, str(model.path), model.feature)
    fit = check_target_model(done)
    if not fit.good:
        raise CheckpointError(f'the result does not fit: {fit.problem()}')
    return done


def _own_section(model: SourceModel, done: Conversion) -> dict[str, Any]:
    """What this toolbox knows about the encoder, under its name in ``config.json``."""
    architecture = {key: value for key, value in asdict(done.architecture).items() if value and key != 'classes'}
    return {
        'version': __version__,
        'architecture': architecture,
        'encoder': done.traits.as_meta(),
        'feature': model.feature,
        'checkpoint': model.path.name,
        'checkpoint_sha256': model.sha256,
    }


def _timm(model: SourceModel) -> Layout:
    need('timm')
    done = _converted(model, 'timm')
    target = target_model_of(done)
    entry = timm_entry(target)
    mean, std = ([value / 255 for value in each] for each in (model.mean, model.std))
    images = {
        'input_size': [done.architecture.in_channels, *model.size],
        'fixed_input_size': done.architecture.patch_size > 0,
        'interpolation': 'bicubic',
        'crop_pct': 1.0,
        'mean': mean,
        'std': std,
        'num_classes': len(done.architecture.classes),
    }
    config = {
        'architecture': entry.name,
        'num_classes': len(done.architecture.classes),
        'num_features': done.architecture.widths[-1] if model.classifier is None else model.classifier.weight.shape[1],
        **({'label_names': list(done.architecture.classes)} if model.classifier else {}),
        'model_args': entry.arguments,
        'pretrained_cfg': images,
        OWN: _own_section(model, done),
    }
    return Layout('timm', done, config)


def _transformers(model: SourceModel) -> Layout:
    need('transformers')
    done = _converted(model, 'hf')
    if model.classifier is None and model.feature != 'class_token':
        raise NoTargetModel('a model whose output is the mean of the patches')
    built: Any = build_target_model(done)
    config = {**built.config.to_diff_dict(), 'architectures': [type(built).__name__], OWN: _own_section(model, done)}
    images = {
        'image_processor_type': 'ViTImageProcessor',
        'do_resize': True,
        'size': dict(zip(('height', 'width'), model.size)),
        'resample': 3,
        'do_rescale': True,
        'rescale_factor': 1 / 255,
        'do_normalize': True,
        'image_mean': [value / 255 for value in model.mean],
        'image_std': [value / 255 for value in model.std],
    }
    return Layout('transformers', done, config, images)


def _own(model: SourceModel) -> Layout:
    if model.classifier is not None:
        raise NoTargetModel('a classifier, which this layout does not hold')
    done = _converted(model, 'mmpretrain')
    return Layout(OWN, done, {OWN: _own_section(model, done)})


_LAYOUTS: dict[str, Callable[[SourceModel], Layout]] = {'timm': _timm, 'transformers': _transformers, OWN: _own}


def stored_meta(model: SourceModel, layout: Layout) -> Mapping[str, Any]:
    """Metadata for the header of the file of tensors."""
    done = layout.conversion
    return {
        'tool': f'{OWN} {__version__}',
        'source': model.path.name,
        'source_sha256': model.sha256,
        'format': done.format,
        'branch': done.branch,
        'target': done.target.name,
        'architecture': asdict(done.architecture),
        'encoder': done.traits.as_meta(),
    }


# ---------------------------------------------------------------- loading it again
def loaded_output(folder: str, library: str, images: torch.Tensor) -> torch.Tensor:
    """Output of the model that a library loads from a folder: features [B, D], or logits [B, C].

    Args:
        folder: The folder.
        library: Key of :data:`LIBRARIES`.
        images: [B, C, H, W], normalized.
    """
    return _LOADERS[library](folder, images)


def _by_timm(folder: str, images: torch.Tensor) -> torch.Tensor:
    import timm

    return _eval(timm.create_model(f'local-dir:{folder}', pretrained=True))(images)


def _by_transformers(folder: str, images: torch.Tensor) -> torch.Tensor:
    import transformers

    # a folder that was just written, never a repository
    config = transformers.AutoConfig.from_pretrained(folder)  # nosec B615 # local
    if str(config.architectures[0]).endswith('ForImageClassification'):
        classifier = transformers.AutoModelForImageClassification.from_pretrained(folder)  # nosec B615 # local
        return _eval(classifier)(images).logits
    model = transformers.AutoModel.from_pretrained(folder, **_without_pooler(config))  # nosec B615 # local
    return _eval(model)(images).last_hidden_state[:, 0]


def _without_pooler(config: Any) -> dict[str, Any]:
    return {'add_pooling_layer': False} if config.model_type == 'vit' else {}


def _by_toolbox(folder: str, images: torch.Tensor) -> torch.Tensor:
    from mmselfsup_graft.evaluation.encoders import Encoder
    from mmselfsup_graft.evaluation.pooling import encode_images

    encoder = Encoder.from_pretrained(folder)
    feature = encoder.own_feature()
    return encode_images(encoder.backbone.to('cpu'), images, (feature,))[feature]


def _eval(model: nn.Module) -> nn.Module:
    model.eval()
    return model


_LOADERS = {'timm': _by_timm, 'transformers': _by_transformers, OWN: _by_toolbox}
