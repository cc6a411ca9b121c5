"""Features of folders from a checkpoint alone, against the backbone itself; parts, tables, and wrong input."""

import numpy as np
import pytest
import torch
from helpers import vit_config
from mmengine.config import Config
from PIL import Image

import mmselfsup_graft as graft
from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.cli import embed as command
from mmselfsup_graft.errors import CheckpointError, ConfigError, DataError
from mmselfsup_graft.evaluation.embedding import folder_features
from mmselfsup_graft.evaluation.embedding.image_table import ImageTable, read_table, write_table
from mmselfsup_graft.registry import MODELS

MEAN, STD = [20.0, 30.0, 40.0], [50.0, 60.0, 70.0]


def make_checkpoint(path, channels=3, **told):
    """A ViT of 16 px with random weights in a file of a run, and the ViT."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.build(vit_config(in_channels=channels))
        model._dump_init_info = lambda *_: None
        model.init_weights()
    state = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    encoder = {'num_heads': 2, 'img_size': [16, 16], 'grid': [4, 4], **told}
    save_atomically({'state_dict': state, 'meta': {'encoder': encoder}}, path)
    model.eval()  # returns None
    return model


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / 'vit.pth'
    return path, make_checkpoint(path, mean=MEAN, std=STD)


def make_images(folder, sizes=((16, 16), (16, 16), (16, 16), (16, 16), (16, 16)), seed=0):
    """Color images in two classes, and their pixels by path."""
    rng, pixels = np.random.default_rng(seed), {}
    for number, size in enumerate(sizes):
        path = folder / f'class_{number % 2}' / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels[str(path)] = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels[str(path)]).save(path)
    return dict(sorted(pixels.items()))


@torch.no_grad()
def direct(model, pixels, mean=MEAN, std=STD):
    """Tokens [N, 1 + L, D] after the final norm, by the backbone itself."""
    images = torch.from_numpy(np.stack(list(pixels))).permute(0, 3, 1, 2).float()
    shift, scale = (torch.tensor(each).view(1, -1, 1, 1) for each in (mean, std))
    return model.encode((images - shift) / scale)


def test_vectors_are_those_of_the_backbone(checkpoint, tmp_path):
    path, model = checkpoint
    pixels = make_images(tmp_path / 'images')
    tokens = direct(model, pixels.values())
    table = graft.embed(path, tmp_path / 'images')
    assert list(table.paths) == list(pixels)
    assert list(table.labels) == [name.split('/')[-2] for name in pixels]
    np.testing.assert_allclose(table.vectors, tokens[:, 0], rtol=1e-4, atol=1e-5)
    both = graft.embed(path, list(pixels.values()), feature='both')
    np.testing.assert_allclose(both.vectors, torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1), rtol=1e-4, atol=1e-5)
    encoder = graft.Encoder.from_checkpoint(path)
    stacked = torch.from_numpy(np.stack(list(pixels.values()))).permute(0, 3, 1, 2)
    for images in (list(pixels), [Image.open(name) for name in pixels], stacked):
        np.testing.assert_allclose(encoder(images, batch_size=2), tokens[:, 0], rtol=1e-4, atol=1e-5)


def test_normalization_and_size_from_options(checkpoint, tmp_path):
    path, model = checkpoint
    pixels = make_images(tmp_path / 'images', sizes=[(16, 16)] * 3)
    given = {'mean': [0.0, 0.0, 0.0], 'std': [255.0, 255.0, 255.0]}
    expected = direct(model, pixels.values(), **given)[:, 0]
    found = graft.embed(path, tmp_path / 'images', normalization=given)
    np.testing.assert_allclose(found.vectors, expected, rtol=1e-4, atol=1e-5)
    encoder = graft.Encoder.from_checkpoint(path, size=(32, 32))
    assert encoder.backbone.patch_resolution == (8, 8)
    assert encoder(list(pixels)).shape == (3, 16)


def test_a_config_gives_the_same(checkpoint, tmp_path):
    path, model = checkpoint
    pixels = make_images(tmp_path / 'images')
    cfg = Config(dict(model=dict(backbone=vit_config(), data_preprocessor=dict(mean=MEAN, std=STD))))
    found = graft.embed(path, tmp_path / 'images', config=cfg, feature='patch_mean')
    expected = direct(model, pixels.values())[:, 1:].mean(1)
    np.testing.assert_allclose(found.vectors, expected, rtol=1e-4, atol=1e-5)


def test_gray_encoders_and_unreadable_files(tmp_path):
    path = tmp_path / 'gray.pth'
    make_checkpoint(path, channels=1)
    folder = tmp_path / 'images'
    make_images(folder, sizes=[(20, 31), (16, 16), (40, 17), (16, 16)])
    (folder / 'class_0' / '2.png').write_bytes(b'no image')
    with pytest.raises(ConfigError, match='does not state how its gray images were normalized'):
        graft.embed(path, folder)
    table = graft.embed(path, folder, normalization={'mean': [10.0], 'std': [60.0]}, labeled=False)
    assert [name.split('/')[-1] for name in table.paths] == ['0.png', '1.png', '3.png']
    assert table.labels is None


def test_interrupted_extraction_continues(checkpoint, tmp_path, monkeypatch, capsys):
    path, _ = checkpoint
    folder, out = tmp_path / 'images', tmp_path / 'features.npy'
    make_images(folder, sizes=[(16, 16)] * 7)
    expected = graft.embed(path, folder)
    calls, whole = [], folder_features.embed

    def failing(*args, **kwargs):
        calls.append(args[6].tolist())
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(folder_features, '_PART', 2)
    monkeypatch.setattr(folder_features, 'embed', failing)
    how = folder_features.Extraction(batch_size=2, part=2)
    encoder = graft.Encoder.from_checkpoint(path)
    data, kept = folder_features.folder_data(encoder, str(folder)), tmp_path / 'kept'
    with pytest.raises(KeyboardInterrupt):
        folder_features.embed_data(encoder, data, how, kept)
    (kept / 'part_000001.npz').write_bytes(b'cut off')
    calls[:] = [[], [], []]
    table, _ = folder_features.embed_data(encoder, data, how, kept)
    assert calls[3:] == [[2, 3], [4, 5], [6]]  # the first part is kept, the damaged one is not
    assert 'resuming: 2 of 7 images are done' in capsys.readouterr().out
    np.testing.assert_allclose(table.vectors, expected.vectors, rtol=1e-5, atol=1e-6)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / 'class_0' / '0.png')
    changed, _ = folder_features.embed_data(encoder, data, how, kept)
    assert not np.allclose(changed.vectors[0], expected.vectors[0])
    assert not out.exists()


@pytest.mark.parametrize('suffix', ['.npy', '.csv', '.parquet'])
@pytest.mark.parametrize('labeled', [True, False])
def test_tables_come_back_from_their_files(tmp_path, suffix, labeled):
    if suffix == '.parquet':
        pytest.importorskip('pyarrow')
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32) * 1e-3
    labels = ['a', 'b, c', 'ü', 'a'] if labeled else None
    write_table(ImageTable(['1.png', 'x/"2".png', 'ä.png', '4.png'], labels, vectors), tmp_path / f't{suffix}')
    table = read_table(tmp_path / f't{suffix}')
    assert list(table.paths) == ['1.png', 'x/"2".png', 'ä.png', '4.png']
    assert (None if table.labels is None else list(table.labels)) == labels
    np.testing.assert_array_equal(table.vectors, vectors)


def test_the_command(checkpoint, tmp_path, capsys):
    path, model = checkpoint
    pixels = make_images(tmp_path / 'images')
    out = tmp_path / 'features.csv'
    arguments = [str(tmp_path / 'images'), '--model', str(path), '--out', str(out)]
    command.main(arguments)
    assert capsys.readouterr().out.endswith('5 images, 2 classes, class_token with 16 numbers\n')
    np.testing.assert_allclose(read_table(out).vectors, direct(model, pixels.values())[:, 0], rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.glob('*.parts'))
    with pytest.raises(ConfigError, match='exists already'):
        command.main(arguments)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (['--model', 'no.pth'], CheckpointError, 'no.pth is not a file'),
        (['--model', 'random'], ConfigError, 'need a config'),
        (['--out', 'x.txt'], ConfigError, 'must end in'),
        (['--mean', '1'], ConfigError, 'given together'),
        (['--mean', '1', '2', '--std', '1', '2'], ConfigError, 'takes 3 channels'),
        (['--feature', 'both', '--block', '9'], ConfigError, 'blocks 1 to 3'),
        (['--img-size', '17'], ConfigError, 'multiple'),
    ],
)
def test_wrong_input(checkpoint, tmp_path, options, error, message):
    make_images(tmp_path / 'images')
    base = [str(tmp_path / 'images'), '--model', str(checkpoint[0]), '--out', str(tmp_path / 'x.npy')]
    with pytest.raises(error, match=message):
        command.main([*base, *options])


def test_damaged_tables_and_images(checkpoint, tmp_path):
    (tmp_path / 'x.npy').write_bytes(b'\x93NUMPY')
    (tmp_path / 'x.csv').write_text('a,b\n1,2\n')
    for name in ('x.npy', 'x.csv', 'missing.npy'):
        with pytest.raises(DataError, match='cannot be read as a table of features'):
            read_table(tmp_path / name)
    encoder = graft.Encoder.from_checkpoint(checkpoint[0])
    with pytest.raises(DataError, match='cannot be read as an image'):
        encoder([tmp_path / 'x.csv'])
    with pytest.raises(DataError, match='image 1 is a'):
        encoder([np.zeros((3, 16, 16))])
    for one in ('x.jpg', tmp_path / 'x.jpg', np.zeros((16, 16), np.uint8)):
        with pytest.raises(DataError, match=r'expected a list of images.*put it in a list'):
            encoder(one)
    with pytest.raises(DataError, match='between 0 and 1'):
        encoder(torch.rand(2, 3, 16, 16))


KINDS = {
    'resnet': dict(type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8),
    'convnext': dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 24, 32])),
    'swin': dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 2, 2, 4]),
        img_size=64,
        window_size=2,
    ),
    'beit': dict(
        type='mmpretrain.BEiTViT',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=8,
        out_type='avg_featmap',
        final_norm=False,
    ),
}


@pytest.mark.parametrize('kind', KINDS)
def test_encoders_of_all_families_from_their_file(kind, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.build(KINDS[kind])
        for value in model.parameters():
            torch.nn.init.normal_(value, std=0.1)
    model.eval()
    path, side = tmp_path / f'{kind}.pth', KINDS[kind].get('img_size', 64)
    state = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    save_atomically(
        {
            'state_dict': state,
            'meta': {
                'encoder': {'mean': MEAN, 'std': STD, 'num_heads': 2} if kind == 'beit' else {'mean': MEAN, 'std': STD}
            },
        },
        path,
    )
    images = torch.randint(0, 256, (3, 3, side, side), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    encoder = graft.Encoder.from_checkpoint(path, size=(side, side))
    shift, scale = (torch.tensor(each).view(1, -1, 1, 1) for each in (MEAN, STD))
    with torch.no_grad():
        output = model((images.float() - shift) / scale)[-1]
    expected = output.flatten(2).mean(2) if output.dim() == 4 else output
    np.testing.assert_allclose(encoder(images, 'patch_mean'), expected, rtol=1e-4, atol=1e-5)
