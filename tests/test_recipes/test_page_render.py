"""The page: its structure, its numbers, and that it is complete in itself."""

import base64
import dataclasses
import io
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mmselfsup_graft.analysis.pages.charts import nice_ticks, rates_chart
from mmselfsup_graft.analysis.pages.images import sheet
from mmselfsup_graft.analysis.pages.palette import DARK, LIGHT
from mmselfsup_graft.analysis.pages.shown import Embedding, Representation, Sample, TrainingRun
from mmselfsup_graft.recipes.page.content import Cell, Command, Reconstruction, ReportPage, Table, TableRow
from mmselfsup_graft.recipes.page.render import render_page, write_page

VOID = {'meta', 'link', 'img', 'input', 'br', 'line', 'circle', 'rect', 'polyline', 'polygon'}


class Reader(HTMLParser):
    """Elements in order, with attributes and text; refuses tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict, list[str]]] = []
        self.open: list[tuple[str, dict, list[str]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [])
        self.found.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, words in self.open:
            words.append(data)

    def all(self, tag, kind=None):
        return [
            (attributes, ' '.join(''.join(words).split()))
            for name, attributes, words in self.found
            if name == tag and (kind is None or kind in attributes.get('class', '').split())
        ]


def make_page(classes=4, labeled=True, side=8, color=False, count=20, **changes) -> ReportPage:
    rng = np.random.default_rng(0)
    shape = (side, side, 3) if color else (side, side)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]
    labels = np.arange(count) % classes if labeled else None
    names = tuple(f'<class {number}>' for number in range(classes)) if labeled else ()
    sample = Sample(images, labels, names, 3 * count)
    shown = tuple(
        Representation(name, 'class token', rng.normal(size=(count, 2)), rng.integers(0, count, (3, 2)), share)
        for name, share in (('pixels', 0.5 if labeled else None), ('LGP', 0.75 if labeled else None))
    )
    possible = 1.0 if labeled else None
    rows = (
        TableRow('pixels', '', (Cell(50.04), Cell(None))),
        TableRow('LGP', 'class token', (Cell(61.26, 2.34, best=True), Cell(70.0, best=True)), 1200, 75.4),
    )
    page = ReportPage(
        title='A & B',
        summary='Two <things>.',
        facts={'When': 'today'},
        runs=[TrainingRun('mim', [10, 20], [2.0, 1.0], {'stem': 1e-4, 'block 0': 1e-3}, 12.0)],
        table=Table(('1 label', '20-NN'), rows, ('A note.',), 'LGP against pixels.') if labeled else None,
        no_table='' if labeled else 'no table: evaluation needs labels',
        embedding=Embedding(sample, 'PCA', np.array([0, 1, 2]), shown, possible),
        reconstructions=[Reconstruction('Images', 'By mim.', {'original': images[:3], 'masked': images[:3]})],
        commands=[Command('Score it:', 'python tools/test.py "a" <b>')],
        files={'table.json': 'the table'},
    )
    return dataclasses.replace(page, **changes)


VARIANTS = {
    'labeled': {},
    'unlabeled': {'labeled': False},
    'many classes': {'classes': 25, 'count': 60},
    'color': {'color': True, 'side': 64},
    'few images': {'count': 4, 'classes': 2},
    'photographs': {
        'reconstructions': [
            Reconstruction('Photos', '', {'original': [np.zeros((60, 90, 3), np.uint8)]}, ('a cat, never seen',))
        ]
    },
    'bare': {'labeled': False, 'embedding': None, 'reconstructions': [], 'commands': [], 'files': {}},
}


@pytest.mark.parametrize('variant', VARIANTS)
def test_the_page_is_whole_and_refers_to_nothing_outside(variant):
    text = render_page(make_page(**VARIANTS[variant]))
    reader = Reader(text)
    assert 'http:' not in text
    assert 'https:' not in text
    assert not reader.all('script')
    for _, attributes, _ in reader.found:
        for name in ('src', 'href'):
            assert re.match(r'data:|#', attributes.get(name, '#'))
    for address in re.findall(r'url\((.*?)\)', text):
        assert address.startswith('data:image/')
    anchors = {attributes['href'][1:] for attributes, _ in reader.all('a')}
    assert anchors == {attributes['id'] for attributes, _ in reader.all('section')}
    for attributes, _ in reader.all('img'):
        assert attributes['alt'].strip()
        Image.open(io.BytesIO(base64.b64decode(attributes['src'].partition(',')[2]))).load()
    for attributes, _ in reader.all('svg'):
        assert attributes.get('aria-label') or attributes.get('aria-hidden')


def test_text_is_escaped():
    reader = Reader(render_page(make_page()))
    assert reader.all('h1')[0][1] == 'A & B'
    assert reader.all('p', 'lead')[0][1] == 'Two <things>.'
    assert reader.all('code', 'bash')[0][1] == 'python tools/test.py "a" <b>'
    assert reader.all('figcaption')[0][1].startswith('mim')


def test_the_table_shows_its_numbers_and_marks_the_best():
    reader = Reader(render_page(make_page()))
    assert [text for _, text in reader.all('td', 'number')] == [
        '50.0',
        '-',
        'none',
        '61.3 (best)± 2.3',
        '70.0 (best)',
        '1 min 15 s1,200 iterations',
    ]
    assert len(reader.all('td', 'best')) == 2
    assert [text for _, text in reader.all('th')] == [
        'Encoder',
        '1 label',
        '20-NN',
        'Training',
        'pixels',
        'LGPclass token',
    ]
    assert reader.all('p', 'comparison')[0][1] == 'LGP against pixels.'


def test_points_lie_where_they_belong_and_bear_their_class():
    page = make_page()
    shown = Reader(render_page(page)).all('i')
    assert len(shown) == 40
    sample, points = page.embedding.sample, page.embedding.representations[0].points
    lefts, tops = [], []
    for number, (attributes, _) in enumerate(shown[:20]):
        assert attributes['class'] == f'i{number} k{number % 4}'
        assert attributes['title'] == sample.class_of(number)
        left, top = re.fullmatch(r'left:([\d.]+)%;top:([\d.]+)%', attributes['style']).groups()
        lefts.append(float(left))
        tops.append(float(top))
    assert 0 < min(lefts + tops) < max(lefts + tops) < 100
    assert np.corrcoef(lefts, points[:, 0])[0, 1] == pytest.approx(1, abs=1e-4)
    assert np.corrcoef(tops, points[:, 1])[0, 1] == pytest.approx(-1, abs=1e-4)
    assert np.ptp(lefts) / np.ptp(tops) == pytest.approx(np.ptp(points[:, 0]) / np.ptp(points[:, 1]), rel=0.01)


def test_neighbors_are_shown_in_their_order_and_marked():
    page = make_page()
    labels = page.embedding.sample.labels
    expected = [
        ('same' if labels[number] == labels[query] else 'other', page.embedding.sample.class_of(number))
        for row, query in enumerate(page.embedding.queries)
        for each in page.embedding.representations
        for number in each.neighbors[row]
    ]
    reader = Reader(render_page(page))
    marks = [attributes['class'] for attributes, _ in reader.all('li') if attributes.get('class') in ('same', 'other')]
    assert marks == [mark for mark, _ in expected]
    alts = [attributes['alt'] for attributes, _ in reader.all('img') if attributes.get('width') == '48']
    words = {'same': 'same class', 'other': 'another class'}
    assert alts == [f'{name}, {words[mark]}' for mark, name in expected]


def test_without_labels_nothing_is_colored_or_marked():
    reader = Reader(render_page(make_page(labeled=False)))
    assert {attributes['class'].split()[1] for attributes, _ in reader.all('i')} == {'other'}
    assert not reader.all('b')
    assert not reader.all('input')
    assert not reader.all('li', 'same')
    assert not reader.all('table')
    assert 'needs labels' in reader.all('section')[0][1]


def test_of_many_classes_the_most_frequent_have_a_color():
    labels = np.array([5] * 8 + [3] * 6 + list(range(6, 26)))
    page = make_page(count=len(labels), classes=26)
    sample = dataclasses.replace(page.embedding.sample, labels=labels)
    page = dataclasses.replace(page, embedding=dataclasses.replace(page.embedding, sample=sample))
    reader = Reader(render_page(page))
    names = [text for _, text in reader.all('label')]
    assert names[:3] == ['all', '1 <class 3>', '2 <class 5>']
    assert names[-1] == '12 other classes'
    assert [text for _, text in reader.all('b')][:10] == [str(number) for number in range(1, 11)]


def test_grey_drawings_take_the_color_of_their_class():
    drawing = np.zeros((8, 8), np.uint8)
    drawing[3:5, 3:5] = 255
    page = make_page()
    sample = dataclasses.replace(page.embedding.sample, images=[drawing] * 20)
    page = dataclasses.replace(page, embedding=dataclasses.replace(page.embedding, sample=sample))
    addresses = re.findall(r'background-image: url\((.*?)\)', render_page(page))
    assert len(addresses) == 2  # one for each color scheme
    for address, palette in zip(addresses, (LIGHT, DARK)):
        sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(',')[2]))))
        assert sheet.shape == (40, 40, 4)  # 5 x 5 tiles
        assert sheet[0, 0, 3] == 0
        for number in range(4):
            assert tuple(sheet[4, 8 * number + 4]) == (*palette[f'k{number}'], 255)


def test_curves_hold_first_and_last_loss():
    iterations = list(range(1, 2001))
    run = TrainingRun('cl', iterations, [1 / i for i in iterations], {}, 1.0)
    reader = Reader(render_page(make_page(runs=[run])))
    (line,) = reader.all('polyline', 'curve')
    places = line[0]['points'].split()
    assert 300 <= len(places) <= 401
    assert float(places[0].partition(',')[0]) < float(places[-1].partition(',')[0])


@pytest.mark.parametrize(('low', 'high'), [(0.1, 0.9), (2.0, 2.0), (0.0, 0.0), (-3.0, 1e4), (1e-7, 3e-7), (6.91, 6.95)])
def test_ticks_are_round_and_around_the_range(low, high):
    ticks = nice_ticks(low, high)
    assert len(ticks) >= 1
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert ticks == sorted(ticks)


@pytest.mark.parametrize(('palette', 'ground'), [(LIGHT, 0xFF), (DARK, 0x18)])
def test_colors_stand_out_from_the_page(palette, ground):
    def light(channels):
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    behind = light([ground] * 3)
    for color in palette.values():
        lighter, darker = max(light(color), behind), min(light(color), behind)
        assert (lighter + 0.05) / (darker + 0.05) >= 3


def test_a_page_is_written(tmp_path):
    page = make_page()
    write_page(page, tmp_path / 'report.html')
    assert (tmp_path / 'report.html').read_text(encoding='utf-8') == render_page(page)


def test_a_name_that_is_not_utf8_does_not_stop_the_page(tmp_path):
    write_page(make_page(title='on ' + os.fsdecode(b'caf\xe9')), tmp_path / 'report.html')
    text = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert Reader(text).all('h1')[0][1] == 'on caf?'


@pytest.mark.parametrize('shape', [(4, 8, 3), (8, 2, 3), (60, 120, 3)])
def test_images_that_are_not_square_keep_their_proportions(shape):
    picture = np.full(shape, 255, np.uint8)
    whole, per_row = sheet([picture] * 3, 8)
    assert (per_row, whole.shape) == (2, (16, 16, 3))
    height, width = (8 * length // max(shape) for length in shape[:2])
    expected = np.zeros((8, 8), np.uint8)
    expected[(8 - height) // 2 :][:height, (8 - width) // 2 :][:, :width] = 255
    for y, x in ((0, 0), (0, 8), (8, 0)):
        np.testing.assert_array_equal(whole[y : y + 8, x : x + 8, 0], expected)
    assert not whole[8:, 8:].any()


def test_layers_of_all_runs_have_a_rate():
    runs = [
        TrainingRun('deep', [1], [1.0], {'stem': 1e-4, 'block 0': 1e-3, 'block 1': 1e-3, 'heads': 1e-2}, 1.0),
        TrainingRun('other', [1], [1.0], {'block 2': 2e-3, 'block 10': 3e-3, 'heads': 1e-2}, 1.0),
    ]
    reader = Reader(rates_chart(runs))
    assert [text for _, text in reader.all('text')][-6:] == [
        'stem',
        'block 0',
        'block 1',
        'block 2',
        'block 10',
        'heads',
    ]
    assert [text for _, text in reader.all('title')] == [
        f'{run.name}, {layer}: {rate:.3g}' for run in runs for layer, rate in run.rates.items()
    ]


@pytest.mark.parametrize('chosen', [True, False])
def test_the_page_says_that_features_are_chosen_by_score(chosen):
    page = make_page()
    page = dataclasses.replace(page, embedding=dataclasses.replace(page.embedding, chosen_by_score=chosen))
    section = next(text for attributes, text in Reader(render_page(page)).all('section') if attributes['id'] == 'map')
    assert ('best score' in section) == chosen
