"""Converting a checkpoint file: read, convert, verify, write, report."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmselfsup_graft.checkpoints import TARGETS, check_destination, file_sha256, read_checkpoint, save_weights
from mmselfsup_graft.checkpoints.conversion.classifier_head import CLASSIFIER_TARGETS, read_classifier, with_classifier
from mmselfsup_graft.checkpoints.conversion.convert_checkpoint import Conversion, convert, summary
from mmselfsup_graft.checkpoints.formats.encoder import detect_format
from mmselfsup_graft.checkpoints.reading.reader import ALLOW
from mmselfsup_graft.downloads.resolve import resolve_zoo
from mmselfsup_graft.errors import CheckpointError, FormatMismatchError
from mmselfsup_graft.libraries.scopes import register_all_modules
from mmselfsup_graft.targets.openmmlab_models import OWN_VIT
from mmselfsup_graft.targets.target_check import Fit, check_target_model, heads_of, target_model_of
from mmselfsup_graft.targets.target_model import NoTargetModel, TargetModel
from mmselfsup_graft.utils.files import write_json
from mmselfsup_graft.version import __version__


@dataclass(frozen=True)
class ConvertOptions:
    """Options of a conversion.

    Attributes:
        target: Destination of the backbone, a key of :data:`TARGETS`.
        method: Format or method of the file, or ``auto``.
        branch: Which encoder of the file; None takes the usual one of its format.
        prefix: ``none``, or ``backbone`` to put ``backbone.`` before every name.
        keep_head: Keep the projection head inside the encoder.
        final_norm: Keep the norm after the last block of a ViT; None takes the target's default.
        img_size: (H, W) in pixels to which position tables are resized; None leaves them.
        overwrite: Replace an existing file.
        hash_name: Append ``-`` and 8 hex digits of the file's SHA-256 to its name, as ``torch.hub`` checks it.
        unsafe_pickle: Allow the file to run code while it is read.
        allow_converted: Take a file whose backbone was extracted before.
        verify: Load the result into the target's model.
        unverified: Write the result even if there is no model to load it into.
        source_grid: Patches per column and per row, (H, W), of the file's position tables; None uses the value in the
            file.
        num_heads: Attention heads of a ViT; None uses the value in the file.
        expand_shared_rel_pos: Give every block its own copy of a relative position table that all blocks share.
        classifier: Keep the linear classifier of a fine-tuned model, with the names of its classes.
        feature: ``class_token`` or ``patch_mean``, which the classifier takes; None uses the value in the file.
    """

    target: str = 'mmdet'
    method: str = 'auto'
    branch: str | None = None
    prefix: str = 'none'
    keep_head: bool = False
    final_norm: bool | None = None
    img_size: tuple[int, int] | None = None
    overwrite: bool = False
    hash_name: bool = False
    unsafe_pickle: bool = False
    allow_converted: bool = False
    verify: bool = True
    unverified: bool = False
    source_grid: tuple[int, int] | None = None
    num_heads: int | None = None
    expand_shared_rel_pos: bool = True
    classifier: bool = False
    feature: str | None = None


@dataclass(frozen=True)
class Converted:
    """A finished conversion.

    Attributes:
        conversion: The conversion.
        path: The written file; None for a dry run.
        text: Text to show: counts, fit, usage.
    """

    conversion: Conversion
    path: Path | None
    text: str


def convert_file(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    options: ConvertOptions,
    dry_run: bool = False,
    report: str | os.PathLike | None = None,
) -> Converted:
    """Convert a checkpoint file.

    Args:
        source: File of any known format, or ``zoo:NAME``.
        destination: File to write; its suffix selects the file format.
        options: Options of the conversion.
        dry_run: Do everything but write the destination.
        report: JSON file for all names; it is also written if the result does not fit its target.

    Raises:
        FormatMismatchError: If the file is of another format than the one named, or was converted before.
        CheckpointError: If it cannot be read or converted, does not fit the target, cannot be verified (without
            ``unverified``), or the destination exists.
    """
    source, destination = Path(resolve_zoo(source)), Path(destination)
    content = read_checkpoint(source, options.unsafe_pickle, ALLOW)
    check_destination(source, destination, options.overwrite)
    report = None if report is None else Path(report)
    _check_report(report, source, destination, options.overwrite)
    if destination.suffix == '.safetensors' and TARGETS[options.target].by_mmengine:
        raise CheckpointError(
            f'{destination}: mmengine, which loads it for {options.target}, cannot read .safetensors; use .pth'
        )
    method, note = _method(content, source, options)
    prefix = 'backbone.' if options.prefix == 'backbone' else ''
    if prefix and not TARGETS[options.target].prefix:
        raise CheckpointError(f'target {options.target} takes names without prefix; leave --prefix backbone out')
    done = convert(
        content,
        str(source),
        options.target,
        method,
        branch=options.branch,
        keep_head=options.keep_head,
        final_norm=options.final_norm,
        img_size=options.img_size,
        prefix=prefix,
        grid=options.source_grid,
        num_heads=options.num_heads,
        expand_shared_rel_pos=options.expand_shared_rel_pos,
    )
    done, head_note = _with_head(done, content, source, options)
    fit, verified = _verify(done, options)
    meta = _meta(done, source)
    content_of_report = {
        'source': str(source),
        'meta': meta,
        'kept': [list(row) for row in done.rows],
        'dropped': list(done.dropped),
        'not_read': list(done.beside),
        'fit': None if fit is None else asdict(fit),
    }
    path = None
    if fit is not None and not fit.good:
        _write_report(report, {**content_of_report, 'destination': None})
        raise CheckpointError(f'the result does not fit: {fit.problem()}; --no-verify writes it anyway')
    if not dry_run:
        if fit is None and options.verify and not options.unverified:
            _write_report(report, {**content_of_report, 'destination': None})
            raise CheckpointError(f'nothing written: {verified}; --unverified writes the result without that check')
        path = save_weights(done.state, meta, destination, options.overwrite, options.hash_name)
    _write_report(report, {**content_of_report, 'destination': None if path is None else str(path)})
    parts = (note, summary(done), head_note, verified, usage(done, path or destination))
    text = '\n'.join(part for part in parts if part)
    return Converted(done, path, text)


def _with_head(
    done: Conversion, content: dict[str, Any], source: Path, options: ConvertOptions
) -> tuple[Conversion, str]:
    """The conversion with the classifier of the file if asked for, and a note about it."""
    if options.feature and not options.classifier:
        raise CheckpointError('--feature is for --classifier: an encoder alone has all its features')
    if options.classifier:
        found = read_classifier(content, str(source))
        if found is None:
            raise CheckpointError(
                f'{source} holds no classifier (head.fc); --classifier is for files of tools/finetune.py'
            )
        done = with_classifier(done, found, str(source), options.feature)
        taken = f' on {feature.replace("_", " ")}' if (feature := done.architecture.feature) else ''
        return done, f'classifier of {len(found.classes)} classes{taken} kept'
    if done.target.name in CLASSIFIER_TARGETS and 'head.fc.weight' in done.dropped:
        return done, 'the file holds a classifier; --classifier keeps it'
    return done, ''


def _check_report(report: Path | None, source: Path, destination: Path, overwrite: bool) -> None:
    """Refuse a report that would replace something else."""
    if report is None:
        return
    if report.is_dir():
        raise CheckpointError(f'--report {report} is a folder; give a file in it')
    if report.absolute() == destination.absolute() or (report.exists() and report.samefile(source)):
        raise CheckpointError(f'--report {report} is the checkpoint; choose another name')
    if report.exists() and not overwrite:
        raise CheckpointError(f'{report} exists; choose another name, or use --overwrite to replace it')


def _write_report(report: Path | None, content: dict[str, Any]) -> None:
    if report is not None:
        write_json(report, content)


def _method(content: dict[str, Any], source: Path, options: ConvertOptions) -> tuple[str, str]:
    """Format to ask for, and a note about it; a file that was extracted before is named as such."""
    found = detect_format(content)
    if options.method == 'auto' or found is None or options.method in (found.name, *found.also):
        return options.method, ''
    if found.bare:
        already = f'{source} holds a bare backbone already, expected a {options.method} checkpoint'
        if not options.allow_converted:
            raise FormatMismatchError(f'{already}; use it as it is, or use --allow-converted to copy it')
        return 'auto', f'{already}; copied'
    return options.method, ''


def _verify(done: Conversion, options: ConvertOptions) -> tuple[Fit | None, str]:
    """Load into the target's model; returns how it fits, and notes."""
    if not options.verify:
        return None, ''
    register_all_modules()
    try:
        fit = check_target_model(done if done.target.name != 'official' else _reversed(done))
    except NoTargetModel as reason:
        return None, f'not loaded into {options.target}: {reason}'
    kinds = sorted({name.rpartition('.')[2] for name in fit.fresh})
    fresh = f', {len(fit.fresh)} of its tensors ({", ".join(kinds)}) stay as initialized, as expected' if kinds else ''
    head = ' but those of the head' if done.head else ''
    if done.target.name == 'official':
        return fit, f'converted back and loaded into {fit.model}: every tensor fits{fresh}'
    return fit, f'loaded into {fit.model}: every tensor{head} fits{fresh}'


def _reversed(done: Conversion) -> Conversion:
    """The reverse conversion: a release has no library whose model could load the file."""
    meta = {'encoder': done.traits.as_meta()}
    return convert({'state_dict': done.bare_state, 'meta': meta}, 'the result', 'mmpretrain')


def _meta(done: Conversion, source: Path) -> dict[str, Any]:
    norm = done.normalization
    return {
        'tool': f'mmselfsup_graft {__version__}',
        'source': source.name,
        'source_sha256': file_sha256(source),
        'format': done.format,
        'branch': done.branch,
        'target': done.target.name,
        'prefix': done.prefix,
        'architecture': asdict(done.architecture),
        'encoder': done.traits.as_meta(),
        # 0..255, as in a data preprocessor
        'normalisation': None
        if norm is None
        else {
            'order': 'RGB',
            'mean': [round(255 * v, 6) for v in norm.mean],
            'std': [round(255 * v, 6) for v in norm.std],
        },
    }


def usage(done: Conversion, path: Path) -> str:
    """Instructions for loading the file into a model, with remarks."""
    target = done.target.name
    target_model = _target_model(done)
    if not done.target.by_mmengine:
        read = (
            f'safetensors.torch.load_file({str(path)!r})'
            if path.suffix == '.safetensors'
            else f'torch.load({str(path)!r}, weights_only=True)["state_dict"]'
        )
        steps = [] if target_model is None else [f'model = {target_model.call()}', *target_model.after]
        if any('enumerate(classes)' in step for step in steps):
            steps.insert(0, f'classes = {_meta_text(path)}["architecture"]["classes"]')
        partly = ', strict=False' if target_model is not None and target_model.partly else ''
        first, *rest = [*steps, f'model.load_state_dict({read}{partly})']
        return '\n'.join([f'use: {first}', *(f'     {line}' for line in rest), *_remarks(done)])
    part = f', prefix={done.prefix!r}' if done.prefix else ''
    built = '...' if target_model is None else target_model.config()
    lines = [f"use: backbone=dict({built}, init_cfg=dict(type='Pretrained', checkpoint={str(path)!r}{part}))"]
    if target_model is not None and target_model.name == OWN_VIT:
        lines = [
            f'use: backbone=dict({built})',
            f'     with graft=[dict(checkpoint={str(path)!r})] beside it in the model',
        ]
    lines += _remarks(done)
    if target in ('mmdet', 'mmseg') and done.architecture.family == 'resnet':
        lines.append(
            "     with norm_cfg=dict(type='SyncBN'), norm_eval=False: frozen batch norm costs self-supervised "
            'backbones much accuracy'
        )
    if target == 'mmseg-vit':
        lines.append(
            "     with patch_bias=True and norm_cfg=dict(type='LN', eps=1e-6): the defaults change the features"
        )
    if target == 'mmseg-mae':
        scale = '' if any(name.endswith('.gamma_1') for name in done.state) else 'init_values=1.0 and '
        lines.append(f"     with {scale}norm_cfg=dict(type='LN', eps=1e-6): the defaults change the features")
    return '\n'.join(lines)


def _meta_text(path: Path) -> str:
    """Python that reads the metadata of a converted file."""
    if path.suffix == '.safetensors':
        return f'json.loads(safetensors.safe_open({str(path)!r}, "pt").metadata()["meta"])'
    return f'torch.load({str(path)!r}, weights_only=True)["meta"]'


def _target_model(done: Conversion) -> TargetModel | None:
    try:
        return target_model_of(done)
    except (NoTargetModel, CheckpointError):
        return None


def _remarks(done: Conversion) -> list[str]:
    """Remarks on assumptions and on the normalization of images."""
    lines = []
    heads, assumed = heads_of(done)
    if assumed and done.architecture.family == 'vit':
        lines.append(f'     num_heads={heads} is assumed: the file does not state it; --num-heads N changes it')
    if done.traits.mean and done.traits.std:
        mean, std = ([round(v, 3) for v in each] for each in (done.traits.mean, done.traits.std))
        lines.append(f'     with images normalized by mean={mean}, std={std} (0..255)')
    return lines
