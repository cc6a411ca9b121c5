"""Colors of classes and runs, one set for each color scheme."""

Color = tuple[int, int, int]

COLORED = 10  # classes with a color of their own
OTHER = 'other'

_LIGHT = ('1f5fa8', 'b84d12', '1a7f3c', 'bd2440', '7446b0', '84551f', 'b52f86', '59616b', '727000', '087c8c', '8c959f')
_DARK = ('6ea8f0', 'f79a55', '5cc46f', 'f2707f', 'b394ee', 'c89a6b', 'ee85c5', 'aab2bb', 'cfc94a', '45c8d6', '6e7781')


def _named(values: tuple[str, ...]) -> dict[str, Color]:
    names = [*(f'k{number}' for number in range(COLORED)), OTHER]
    return {name: (int(v[:2], 16), int(v[2:4], 16), int(v[4:], 16)) for name, v in zip(names, values, strict=True)}


#: name of the color -> red, green, blue; each has a contrast of 3 or more to the page
LIGHT = _named(_LIGHT)
DARK = _named(_DARK)


def as_css(palette: dict[str, Color]) -> str:
    """The palette as CSS variables."""
    return ' '.join(f'--{name}: #{r:02x}{g:02x}{b:02x};' for name, (r, g, b) in palette.items())
