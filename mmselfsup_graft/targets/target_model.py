"""Models of other libraries that take a converted backbone, described by the name of a class and its arguments.

A builder returns a :class:`TargetModel`: the name of a class and the arguments for the backbone. It builds the model
that checks a conversion, and the text that shows users how to build it.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

EPS = 1e-6  # of the layer norms of pre-trained ViTs, unless their file has another one


class NoTargetModel(Exception):
    """The target model cannot be built, for the reason in the message."""


@dataclass(frozen=True)
class TargetModel:
    """A model of another library.

    Args:
        name: Dotted name of its class.
        arguments: Arguments of the class; values are plain or :class:`Code`.
        make: Builds the model.
        after: Further statements of the text, on ``model``.
        partly: Whether it has tensors that features do not need and a file may lack.
        quiet: Arguments for the check only, which are not in the text.
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
    """An argument that is a Python object: its source text, and a function that makes it."""

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
