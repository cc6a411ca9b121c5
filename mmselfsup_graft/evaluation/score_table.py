"""Scores as text tables."""

from typing import Any

FEATURE_NAMES = {
    'class_token': 'class token',
    'patch_mean': 'mean of patches',
    'both': 'class token and mean of patches',
}
_CHOSEN = {
    'test': 'the best setting is chosen on the evaluation set itself, as in the papers',
    'holdout': 'the best setting is chosen on a held-out part of the training set',
}


def table_text(result: dict[str, Any]) -> str:
    """The table of several encoders: accuracies in per cent.

    Args:
        result: ``rows``: name -> protocol -> result, with ``iterations``, ``train_seconds`` and ``train_cpu_seconds``
            if the cost is known; ``protocol``: protocol -> settings.
    """
    settings, rows = result['protocol'], result['rows']
    columns = [column for name in settings for column in _COLUMNS[name](settings[name])]
    with_cost = any('iterations' in row for row in rows.values())
    columns += _COST if with_cost else []
    first = max(len(name) for name in rows) + 1
    lines = ['accuracy in %' + _explain_shots(settings)]
    lines.append(' ' * first + ''.join(f'{title:>{width}}' for title, width, _ in columns))
    for name, row in rows.items():
        cells = ''.join(f'{cell(row):>{width}}' for _, width, cell in columns)
        lines.append(f'{name:{first}}{cells}'.rstrip())
    if with_cost:
        lines.append('cost of training, with all stages that a row builds on; CPU s: all threads of the process')
    if 'few_shot' in settings and any(
        len(row['few_shot']) < len(settings['few_shot']['shots']) for row in rows.values()
    ):
        lines.append('-: the smallest class has fewer training images than that')
    chosen = {name: _CHOSEN.get(each.get('selection')) for name, each in settings.items()}
    lines += [f'{name}: {text}' for name, text in chosen.items() if text]
    return '\n'.join(lines)


def notes_text(results: dict[str, dict]) -> str:
    """Details of one encoder's scores: selected settings, selection data, convergence."""
    lines = []
    if 'knn' in results:
        knn = results['knn']
        lines.append(f'k-NN: k {knn["k"]}, temperature {knn["temperature"]:g}; {knn["selection"]}')
    if 'logistic' in results:
        fit = results['logistic']
        ended = 'converged' if fit['converged'] else 'did NOT converge; raise evaluation.logistic.max_iter'
        lines.append(f'logistic: {fit["images"]} images, {ended} ({fit["iterations"]} iterations)')
    if 'linear' in results:
        best = results['linear']
        lines.append(
            f'linear: base lr {best["base_lr"]:g} (times {best["rate_factor"]:g}), weight decay '
            f'{best["weight_decay"]:g}, epoch {best["epoch"]}; {best["selection"]}'
        )
    return '\n'.join(lines)


def _explain_shots(settings: dict[str, Any]) -> str:
    if 'few_shot' not in settings:
        return ''
    draws = settings['few_shot']['draws']
    return f', logistic regression on n labels per class: mean ± spread over {draws} draws'


def _few_shot_columns(settings: dict[str, Any]) -> list[tuple]:
    def column(n: int) -> tuple:
        return (f'{n} label{"s" if n > 1 else ""}', 13, lambda row: _spread(row['few_shot'].get(n)))

    return [column(n) for n in settings['shots']]


def _spread(scores: dict[str, Any] | None) -> str:
    if scores is None:
        return '-'  # more shots than images in the smallest class
    return f'{scores["mean"]:.1f} ± {scores["std"]:.1f}'


def _knn_columns(settings: dict[str, Any]) -> list[tuple]:
    title = f'{settings["k"][0]}-NN' if settings['selection'] == 'first' else 'k-NN'
    return [(title, 7, lambda row: f'{row["knn"]["accuracy"]:.1f}')]


def _single(name: str) -> Any:
    return lambda settings: [(name, 10, lambda row: f'{row[name]["accuracy"]:.1f}')]


def _cost(key: str) -> Any:
    return lambda row: f'{row[key]:.0f}' if key in row else ''


_COST = [
    ('iterations', 12, _cost('iterations')),
    ('seconds', 9, _cost('train_seconds')),
    ('CPU s', 8, _cost('train_cpu_seconds')),
]
_COLUMNS: dict[str, Any] = {
    'few_shot': _few_shot_columns,
    'logistic': _single('logistic'),
    'knn': _knn_columns,
    'linear': _single('linear'),
}


def row_name(encoder: str, feature: str, own: str) -> str:
    """Name of a row: the encoder's for its own feature, ``LGP, mean of patches`` for another one."""
    return encoder if feature == own else f'{encoder}, {FEATURE_NAMES[feature]}'
