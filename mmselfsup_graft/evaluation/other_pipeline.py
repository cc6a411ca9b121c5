"""A data set with another pipeline."""

from collections.abc import Mapping, Sequence
from typing import Any


def with_pipeline(dataset: Mapping[str, Any], pipeline: Sequence[Any], **changes: Any) -> dict[str, Any]:
    """Return the config of a data set with another pipeline, which runs on PIL images.

    ``fast`` belongs to the replaced pipeline: the new one may hold transforms without a fast form, and its
    user may not apply operations that a fast pipeline leaves to the device.

    Args:
        dataset: Config of a data set; it is not changed.
        pipeline: Configs of transforms.
        **changes: Other keys to set.
    """
    plain = {'fast': False} if 'fast' in dataset else {}
    return {**dataset, **plain, 'pipeline': pipeline, **changes}
