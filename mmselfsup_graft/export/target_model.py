"""Models of other libraries that take a converted backbone, as a class by name and its arguments.

A builder gives a :class:`TargetModel`: a class by name and the arguments that its backbone needs. The model that checks
a conversion and the line that tells users how to build it come from the same object.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

EPS = 1e-6  # of the layer norms of every ViT that was pre-trained, unless its file says otherwise


class NoTargetModel(Exception):
    """There is no model to build here, for the reason in the message."""


@dataclass(frozen=True)
class TargetModel:
    """A model of another library.

    Args:
        name: Dotted name of its class.
        arguments: What it must be built with; values are plain or :class:`Code`.
        make: Builds it.
        after: Statements that follow in the text, on ``model``.
        partly: Whether it has tensors that features do not need and a file may lack.
        quiet: Arguments for the check alone, which the text leaves out.
    """

    name: str
    arguments: Mapping[str, Any]
    make: Callable[[], nn.Module]
    after: tuple[str, ...] = ()
    partly: bool = False
    quiet: frozenset[str] = field(default_factory=frozenset)

    @property
    def _shown(self) -> dict[str, Any]:
        return {key: value for key, value in self.arguments.items() if key not in self.quiet}

    def call(self) -> str:
        """Python that builds it: ``library.Class(key=value, ...)``."""
        return f'{self.name}({arguments_text(self._shown)})'

    def config(self) -> str:
        """Entries of a config dict: ``type='library.Class', key=value, ...``."""
        return f'type={self.name!r}, {arguments_text(self._shown)}'


@dataclass(frozen=True)
class Code:
    """An argument that is an object of Python: how it is written, and how it is made."""

    text: str
    make: Callable[[], Any]


def arguments_text(arguments: Mapping[str, Any]) -> str:
    """``key=value, ...`` as in a call."""
    return ', '.join(f'{key}={_value(value)}' for key, value in arguments.items())


def _value(value: Any) -> str:
    if isinstance(value, Code):
        return value.text
    return f'dict({arguments_text(value)})' if isinstance(value, Mapping) else repr(value)


def need(package: str) -> None:
    """Raise an error if a package is missing.

    Raises:
        NoTargetModel: If it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise NoTargetModel(f'{package} is not installed (pip install {package})')
