"""The cost of a training as text."""

from .measure import Cost

_PREFIXES = ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k'))


def cost_text(cost: Cost) -> str:
    """Parameters and operations, a line each."""
    views = ', '.join(f'{height} x {width}' for height, width in cost.views)
    rows = [
        ('views of an image', f'{len(cost.views)} ({views} px)'),
        ('encoder, one view', f'{short(cost.encoder)}FLOPs'),
        ('loss, per image', f'{short(cost.forward)}FLOPs'),
        ('loss and gradients', f'{short(cost.step)}FLOPs'),
        ('trained parameters', short(cost.trained)),
        *((f'  {name}', f'{short(count)}') for name, count in cost.parameters.items()),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f'{name:{width}}  {value}' for name, value in rows]
    return '\n'.join([*lines, 'A multiplication and an addition are 2 FLOPs.'])


def short(count: float) -> str:
    """A number with three digits and its unit: ``17.6 G``."""
    for size, prefix in _PREFIXES:
        if count >= size:
            return f'{count / size:.3g} {prefix}'
    return f'{count:.0f} '
