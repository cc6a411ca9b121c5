"""Writing the folder of a hub repository, and checking that its library loads it with the same outputs."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmselfsup_graft.checkpoints import save_weights
from mmselfsup_graft.downloads.hub import CONFIG, IMAGES, WEIGHTS, check_repository
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.export.output_check import check_outputs
from mmselfsup_graft.export.source_model import SourceModel, random_images, source_model
from mmselfsup_graft.utils.files import read_rows, write_json, write_text

from .hub_layouts import Layout, layout_of, loaded_output, stored_meta
from .model_card import model_card

CARD = 'README.md'
Results = str | os.PathLike | Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True)
class HubFolder:
    """A written folder.

    Attributes:
        path: The folder.
        library: Whose layout it has.
        rows: Number of result rows in the card.
        difference: Largest difference of the outputs that the library gives, relative to the largest one.
    """

    path: Path
    library: str
    rows: int
    difference: float

    def text(self, name: str) -> str:
        """A line to show about the repository or folder of this name."""
        return (
            f'{name}: loaded by {self.library}, outputs differ by at most {self.difference:.1e} of the largest; '
            f'{self.rows} result rows in the card'
        )


def write_hub_folder(
    checkpoint: str | os.PathLike,
    folder: str | os.PathLike,
    name: str,
    *,
    results: Results = None,
    license_name: str | None = None,
    library: str | None = None,
    **options: Any,
) -> HubFolder:
    """Write weights, configuration and card of a repository into a new folder.

    The folder is loaded by its library, and the outputs for random images must be those of the checkpoint.

    Args:
        checkpoint: File of any known format, or ``zoo:NAME``.
        folder: Folder to write; it must not exist or be empty.
        name: ``user/name`` of the repository, for the lines of the card.
        results: ``results.jsonl``, or its rows. Only rows of this checkpoint are taken.
        license_name: License of the weights, as the hub spells it (``apache-2.0``); None leaves it out.
        library: ``timm``, ``transformers`` or ``mmselfsup_graft``; None takes the first that has such a model.
        **options: ``source``, ``feature``, ``size``, ``normalization``, ``classifier`` of
            :func:`mmselfsup_graft.export.source_model.source_model`.

    Raises:
        CheckpointError: If the checkpoint cannot be read, no library takes it, or the outputs differ.
        ConfigError: If the name is wrong, the folder is not empty, or no row is of this checkpoint.
    """
    check_repository(name)
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f'{target} exists and is not an empty folder; choose another one')
    model = source_model(checkpoint, **options)
    rows = rows_of(model, results)
    layout = layout_of(model, library)
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f'.{target.name}-', dir=target.absolute().parent))
    try:
        _write(draft, model, layout, model_card(model, layout, name, rows, license_name))
        difference = _check(draft, model, layout)
        draft.chmod(0o755)
        if target.exists():
            target.rmdir()
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return HubFolder(target, layout.library, len(rows), difference)


def rows_of(model: SourceModel, results: Results) -> list[dict[str, Any]]:
    """Result rows of this checkpoint.

    Raises:
        ConfigError: If rows are given and none is of this checkpoint.
    """
    if results is None:
        return []
    given = read_rows(results) if isinstance(results, str | os.PathLike) else list(results)
    rows = [dict(row) for row in given if row.get('checkpoint_sha256') == model.sha256]
    if not rows:
        others = sorted({Path(str(row.get('checkpoint'))).name for row in given})
        raise ConfigError(
            f'none of the {len(given)} result rows is of {model.path} (SHA-256 {model.sha256[:8]}...); they are of '
            f'{", ".join(others) or "nothing"}. Score this checkpoint, or leave the results out'
        )
    return rows


def _write(folder: Path, model: SourceModel, layout: Layout, card: str) -> None:
    save_weights(layout.conversion.state, stored_meta(model, layout), folder / WEIGHTS)
    write_json(folder / CONFIG, layout.config)
    if layout.images is not None:
        write_json(folder / IMAGES, layout.images)
    write_text(folder / CARD, card)


@torch.no_grad()
def _check(folder: Path, model: SourceModel, layout: Layout) -> float:
    images = random_images(model, 2)
    with contextlib.redirect_stdout(None):
        found = loaded_output(str(folder), layout.library, images)
    return check_outputs(found.float(), model.output(images), f'the model that {layout.library} loads')
