"""Uploading the folder of an encoder to the Hugging Face hub."""

import os
import tempfile
from pathlib import Path
from typing import Any

from mmselfsup_graft.downloads.hub import check_repository, hub_library
from mmselfsup_graft.errors import GraftError

from .hub_folder import HubFolder, Results, write_hub_folder


def push_to_hub(
    checkpoint: str | os.PathLike,
    name: str,
    *,
    results: Results = None,
    license: str | None = None,
    private: bool = False,
    revision: str | None = None,
    **options: Any,
) -> str:
    """Share the encoder of a checkpoint, or its classifier, as a repository of the Hugging Face hub.

    The repository holds ``model.safetensors``, ``config.json`` and a model card with the result rows. timm's
    ``hf-hub:user/name`` and transformers' ``AutoModel`` load it where they have such a model, and
    :meth:`Encoder.from_pretrained` always. Before the upload the folder is loaded by that library and its outputs are
    compared.

    Args:
        checkpoint: File of any known format, or ``zoo:NAME``.
        name: ``user/name``; the repository is created if it does not exist.
        results: ``results.jsonl``, or its rows. Only rows of this checkpoint are taken.
        license: License of the weights, as the hub spells it (``apache-2.0``); None leaves it out.
        private: Whether a new repository is private.
        revision: Branch to upload to; None is ``main``.
        **options: ``library``, ``source``, ``feature``, ``size``, ``normalization``, ``classifier`` of
            :func:`mmselfsup_graft.export.sharing.hub_folder.write_hub_folder`.

    Returns:
        Address of the commit.

    Raises:
        CheckpointError: If the checkpoint cannot be read, no library takes it, or the outputs differ.
        ConfigError: If the name is wrong, no row is of this checkpoint, or huggingface_hub is not installed.
        GraftError: If the hub refuses the upload.
    """
    return push_folder(
        checkpoint, name, results=results, license=license, private=private, revision=revision, **options
    )[1]


def push_folder(
    checkpoint: str | os.PathLike,
    name: str,
    *,
    results: Results = None,
    license: str | None = None,
    private: bool = False,
    revision: str | None = None,
    **options: Any,
) -> tuple[HubFolder, str]:
    """See :func:`push_to_hub`; also returns what was written."""
    check_repository(name)
    library = hub_library()  # before any work
    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / name.rpartition('/')[2]
        folder = write_hub_folder(checkpoint, target, name, results=results, license_name=license, **options)
        try:
            hub = library.HfApi()
            hub.create_repo(name, private=private, exist_ok=True)
            done = hub.upload_folder(
                repo_id=name,
                folder_path=target,
                revision=revision,
                commit_message=f'Upload {folder.library} weights with mmselfsup_graft',
            )
        except (OSError, ValueError) as error:  # errors of HTTP are OSErrors
            said = ' '.join(str(error).split())[:300]
            raise GraftError(
                f'{name} could not be uploaded: {said}; log in with hf auth login or set HF_TOKEN'
            ) from error
    return folder, str(done.commit_url)
