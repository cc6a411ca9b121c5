"""Reading recipes: order, references, and refusal of whatever does not fit before anything runs."""

import os
from hashlib import sha256
from pathlib import Path

import pytest
from test_tools.tiny_runs import call_tool, tiny_config, write_config

from mmselfsup_graft.errors import ConfigError, DataError, GraftError
from mmselfsup_graft.recipes import recipe as recipes
from mmselfsup_graft.recipes.recipe import is_done, load_recipe, read_done, stage_checkpoint
from mmselfsup_graft.utils.files import write_json

ROOT = Path(__file__).resolve().parents[2]
GRAFT = {'model.graft': [dict(checkpoint='stage:mim')]}


@pytest.fixture
def make(tmp_path):
    """Write a recipe over three tiny configs."""
    for kind in ('mim', 'cl', 'lgp'):
        write_config(tmp_path / f'{kind}.py', tiny_config(kind))

    def write(stages: list[dict], name: str = 'recipe', **content) -> Path:
        return write_config(tmp_path / f'{name}.py', {'stages': stages, **content})

    return write


def stage(name: str, config: str = '', **options) -> dict:
    return dict(name=name, config=f'./{config or name}.py', **options)


CASCADE = [stage('mim'), stage('cl'), stage('lgp', options=GRAFT)]


def test_stages_keep_their_order_and_know_what_they_need(make):
    recipe = load_recipe(make(CASCADE))
    assert [(each.name, each.needs) for each in recipe.stages] == [('mim', ()), ('cl', ()), ('lgp', ('mim',))]
    assert recipe.stage('cl').cfg.model.type == 'MoCoV3'
    with pytest.raises(ConfigError, match="has no stage 'x'; its stages are mim, cl, lgp"):
        recipe.stage('x')


def test_options_reach_their_stage_and_common_ones_all(make):
    stages = [stage('mim', options={'train_cfg.max_epochs': 7}), stage('cl')]
    recipe = load_recipe(make(stages, options={'randomness.seed': 5}), {'optim_wrapper.optimizer.lr': 0.5})
    assert [each.cfg.train_cfg.max_epochs for each in recipe.stages] == [7, 2]
    assert [each.cfg.randomness.seed for each in recipe.stages] == [5, 5]
    assert [each.cfg.optim_wrapper.optimizer.lr for each in recipe.stages] == [0.5, 0.5]


def test_half_precision_is_for_all_stages(make):
    recipe = load_recipe(make(CASCADE), amp=True)
    assert {each.cfg.optim_wrapper.type for each in recipe.stages} == {'AutocastOptimWrapper'}


def test_references_become_the_final_checkpoint_of_the_stage(make, tmp_path):
    recipe = load_recipe(make(CASCADE))
    work = tmp_path / 'work'
    with pytest.raises(GraftError, match=r'stage mim in .* is not finished'):
        stage_checkpoint(work, 'mim')
    (work / 'mim').mkdir(parents=True)
    checkpoint = work / 'mim' / 'epoch_3.pth'
    checkpoint.write_bytes(b'weights')
    write_json(work / 'mim' / 'done.json', {'checkpoint': 'epoch_3.pth', 'sha256': sha256(b'weights').hexdigest()})
    resolved = recipes.resolve(recipe.stage('lgp').cfg.to_dict(), work)
    assert resolved['model']['graft'] == [{'checkpoint': str(checkpoint)}]
    unchanged = recipe.stage('cl').cfg.to_dict()
    assert recipes.resolve(unchanged, work) == unchanged


def test_a_fingerprint_follows_the_config_and_all_it_builds_on(make):
    plain = load_recipe(make(CASCADE))
    assert [s.fingerprint for s in load_recipe(make(CASCADE)).stages] == [s.fingerprint for s in plain.stages]
    changed = [stage('mim', options={'model.mask_ratio': 0.5}), *CASCADE[1:]]
    other = load_recipe(make(changed, 'other'))
    same = [a.fingerprint == b.fingerprint for a, b in zip(plain.stages, other.stages, strict=True)]
    assert same == [False, True, False]


FAULTS = {
    'unknown stage': ([stage('lgp', options=GRAFT)], {}, "stage 'lgp' uses stage:mim, which is not an earlier stage"),
    'later stage': ([CASCADE[2], CASCADE[0]], {}, "stage 'lgp' uses stage:mim, which is not an earlier stage"),
    'two of a name': ([stage('mim'), stage('mim')], {}, "two stages are called 'mim'"),
    'stage key': ([stage('mim', opts={})], {}, 'a stage has the keys name, config, share, options and checkpoint'),
    'no config': ([dict(name='mim')], {}, 'a stage has the keys name, config, share, options and checkpoint'),
    'recipe key': ([stage('mim')], {'reports': {}}, "unknown key 'reports'"),
    'no stages': ([], {}, 'no stages'),
    'missing config': ([stage('mim', 'gone')], {}, 'gone.py does not exist'),
    'config key': ([stage('mim', options={'model.mask_ration': 0.5})], {}, "did you mean 'mask_ratio'?"),
    'report': ([stage('mim')], {'report': {'rows': [dict(name='LGP', stage='lgp')]}}, "has no stage 'lgp'"),
}


@pytest.mark.parametrize(('stages', 'content', 'says'), FAULTS.values(), ids=FAULTS)
def test_faults_are_one_line_and_nothing_is_started(stages, content, says, make, tmp_path):
    done = call_tool('run_recipe', make(stages, **content), '--work-dir', tmp_path / 'work')
    assert says in done.error()
    assert not (tmp_path / 'work').exists()


def test_other_refusals(make, tmp_path):
    assert 'recipe none.py does not exist' in call_tool('run_recipe', 'none.py').error()
    path = make(CASCADE)
    done = call_tool('run_recipe', path, '--work-dir', tmp_path / 'work', '--jobs', '0')
    assert '--jobs must be at least 1' in done.error()
    done = call_tool('run_recipe', path, '--work-dir', tmp_path / 'work', '--cfg-options', 'model.nek=1')
    assert 'model.nek' in done.error()


def test_a_report_needs_finished_stages(make, tmp_path):
    done = call_tool('run_recipe', make(CASCADE), '--work-dir', tmp_path / 'work', '--report-only')
    assert 'stage mim' in done.error()
    assert 'is not finished' in done.error()


def test_a_folder_of_another_config_is_refused(make, tmp_path):
    recipe = load_recipe(make(CASCADE))
    folder = tmp_path / 'work' / 'mim'
    folder.mkdir(parents=True)
    assert not is_done(recipe.stage('mim'), tmp_path / 'work')
    write_json(folder / 'stage.json', {'fingerprint': recipe.stage('mim').fingerprint})
    assert not is_done(recipe.stage('mim'), tmp_path / 'work')
    write_json(folder / 'done.json', {'checkpoint': 'epoch_1.pth'})
    assert is_done(recipe.stage('mim'), tmp_path / 'work')
    write_json(folder / 'stage.json', {'fingerprint': 'another'})
    with pytest.raises(ConfigError, match='mim was made with another config'):
        is_done(recipe.stage('mim'), tmp_path / 'work')
    (folder / 'stage.json').unlink()
    assert is_done(recipe.stage('mim'), tmp_path / 'work')
    write_json(folder / 'done.json', {'checkpoint': 'epoch_1.pth', 'fingerprint': 'another'})
    with pytest.raises(ConfigError, match='mim was made with another config'):
        is_done(recipe.stage('mim'), tmp_path / 'work')


@pytest.mark.parametrize('name', ['stage.json', 'done.json'])
@pytest.mark.parametrize('content', [b'', b'{"fingerprint": "x"', b'[]', b'{}', b'\xff'])
def test_a_damaged_note_of_a_stage_is_named(name, content, make, tmp_path):
    recipe = load_recipe(make(CASCADE))
    folder = tmp_path / 'work' / 'mim'
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=str(folder / name)):
        is_done(recipe.stage('mim'), tmp_path / 'work')


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        *(('checkpoint', name) for name in ('../cl/epoch_1.pth', '/tmp/epoch_1.pth', '', '.', 'a\0.pth', 3, ['a.pth'])),
        *(
            ('checkpoint', name)
            for name in ('stage:mim', 'https://host/epoch_1.pth', '\x1b[2J.pth', 'a' * 300 + '.pth')
        ),
        *(('seconds', amount) for amount in ('x', -1, float('nan'), float('inf'), None, 10**400)),
        *(('cpu_seconds', 'x'), ('iterations', [1]), ('notes', 'x'), ('notes', [3]), ('notes', ['\x1b[2J'])),
        *(('sha256', 1), ('fingerprint', None)),
    ],
)
def test_a_note_of_a_stage_with_another_value_is_not_believed(key, value, tmp_path):
    folder = tmp_path / 'mim'
    folder.mkdir()
    write_json(folder / 'done.json', {'checkpoint': 'epoch_1.pth', key: value})
    with pytest.raises(DataError, match=f"done.json' is damaged: {key} is .*, expected"):
        read_done(tmp_path, 'mim')


def test_time_that_older_versions_did_not_know(tmp_path):
    (tmp_path / 'mim').mkdir()
    note = {'checkpoint': 'epoch_1.pth', 'seconds': 2.5, 'cpu_seconds': float('nan'), 'iterations': 3, 'notes': ['a']}
    write_json(tmp_path / 'mim' / 'done.json', note)
    del note['cpu_seconds']
    assert read_done(tmp_path, 'mim') == note


def test_the_checkpoint_of_a_stage_is_the_file_that_it_left(tmp_path):
    folder, outside = tmp_path / 'work' / 'mim', tmp_path / 'outside.pth'
    folder.mkdir(parents=True)
    checkpoint = folder / 'epoch_1.pth'
    outside.write_bytes(b'other')
    digest = sha256(b'weights').hexdigest()
    write_json(folder / 'done.json', {'checkpoint': checkpoint.name, 'sha256': digest})
    with pytest.raises(GraftError, match=r'epoch_1\.pth does not exist'):
        stage_checkpoint(tmp_path / 'work', 'mim')
    checkpoint.write_bytes(b'weights')
    assert stage_checkpoint(tmp_path / 'work', 'mim') == checkpoint
    before = checkpoint.stat()
    for replace in (lambda: checkpoint.write_bytes(b'forged!'), lambda: checkpoint.symlink_to(outside)):
        checkpoint.unlink()
        replace()
        with pytest.raises(GraftError, match='is not the file of its stage'):
            stage_checkpoint(tmp_path / 'work', 'mim')
    checkpoint.unlink()
    checkpoint.write_bytes(b'weights')
    os.utime(checkpoint, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert stage_checkpoint(tmp_path / 'work', 'mim') == checkpoint
    write_json(folder / 'done.json', {'checkpoint': checkpoint.name})
    with pytest.raises(GraftError, match='is not the file of its stage'):
        stage_checkpoint(tmp_path / 'work', 'mim')


def test_a_share_scales_epochs_and_schedule(tmp_path):
    config = ROOT / 'configs/mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py'
    path = tmp_path / 'recipe.py'
    path.write_text(f'stages = [dict(name="a", config={str(config)!r}, share=0.25)]')
    cfg = load_recipe(path).stages[0].cfg
    assert cfg.train_cfg.max_epochs == 200
    assert (cfg.param_scheduler[0].warmup, cfg.param_scheduler[0].get('end', 200)) == (10, 200)
    # overrides set the whole length, of which the stage still gets its share
    length = {'train_cfg.max_epochs': 40, 'param_scheduler.0.end': 40, 'param_scheduler.0.warmup': 4}
    cfg = load_recipe(path, length).stages[0].cfg
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler[0].warmup, cfg.param_scheduler[0].end) == (10, 1, 10)
    path.write_text(f'stages = [dict(name="a", config={str(config)!r}, share=-1)]')
    with pytest.raises(ConfigError, match='share must be positive'):
        load_recipe(path)


def test_a_schedule_that_states_the_length_of_the_training_is_the_same_stage(tmp_path):
    """Configs did so in earlier versions; their finished stages are not trained again."""
    path = tmp_path / 'recipe.py'
    config = ROOT / 'configs/mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py'
    path.write_text(f'stages = [dict(name="a", config={str(config)!r})]')
    plain, stated, other = (
        load_recipe(path, options).stages[0].fingerprint
        for options in ({}, {'param_scheduler.0.end': 800}, {'param_scheduler.0.end': 700})
    )
    assert plain == stated != other


def test_epochs_set_the_longest_stage_and_keep_proportions(tmp_path):
    config = ROOT / 'configs/mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py'
    path = tmp_path / 'recipe.py'
    shares = {'a': 0.25, 'b': 2, 'c': 1}
    stages = [dict(name=name, config=str(config), share=share) for name, share in shares.items()]
    path.write_text(f'stages = {stages!r}')
    schedules = {
        each.name: (each.cfg.train_cfg.max_epochs, each.cfg.param_scheduler[0].warmup)
        for each in load_recipe(path, epochs=80).stages
    }
    assert schedules == {'a': (10, 0.5), 'b': (80, 4), 'c': (40, 2)}
    assert [each.cfg.train_cfg.max_epochs for each in load_recipe(path, epochs=1).stages] == [1, 1, 1]
    assert [each.cfg.train_cfg.max_epochs for each in load_recipe(path).stages] == [200, 1600, 800]
    with pytest.raises(ConfigError, match='at least 1, got 0'):
        load_recipe(path, epochs=0)


def test_a_stage_that_never_trained_takes_another_config(make, tmp_path):
    stage = load_recipe(make(CASCADE)).stage('mim')
    folder = tmp_path / 'work' / 'mim'
    folder.mkdir(parents=True)
    write_json(folder / 'stage.json', {'fingerprint': 'another'})
    assert not is_done(stage, tmp_path / 'work')
    (folder / 'iter_3.pth').touch()
    with pytest.raises(ConfigError, match='mim was made with another config'):
        is_done(stage, tmp_path / 'work')


def test_how_a_stage_is_scored_is_no_part_of_its_identity(tmp_path):
    recipe = ROOT / 'configs/recipes/layer-grafted_vit-micro-p4_digits-16px.py'
    plain = load_recipe(recipe)
    rescored = load_recipe(recipe, {'evaluation.few_shot.draws': 3})
    reseeded = load_recipe(recipe, {'randomness.seed': 3})
    assert [s.fingerprint for s in plain.stages] == [s.fingerprint for s in rescored.stages]
    assert all(a.fingerprint != b.fingerprint for a, b in zip(plain.stages, reseeded.stages))


def test_an_override_reaches_the_stages_that_can_take_it_and_needs_one(make):
    path = make([stage('mim'), stage('cl')])
    loaded = load_recipe(path, {'model.mask_ratio': 0.5})
    assert loaded.stage('mim').cfg.model.mask_ratio == 0.5
    assert 'mask_ratio' not in loaded.stage('cl').cfg.model
    with pytest.raises(ConfigError, match="did you mean 'mask_ratio'"):
        load_recipe(path, {'model.mask_ration': 0.5})


FAULTY_REPORTS = [
    {'row': []},
    {'rows': [{'name': 'A'}]},
    {'reconstruct': ['nobody']},
    {'maps': ['A']},
    {'features': ['token']},
    {'features': 'both'},
    {'rows': [{'name': 'A', 'stage': 'mim'}, {'name': 'A', 'stage': 'mim'}]},
    {'rows': [{'name': 'raw pixels', 'stage': 'mim'}]},
]


@pytest.mark.parametrize('report', FAULTY_REPORTS)
def test_a_faulty_report_is_refused_before_anything_runs(report, make):
    with pytest.raises(
        ConfigError, match=r'report takes|no stage|report\.features must be|report\.maps|two rows of the report'
    ):
        load_recipe(make([stage('mim')], report=report))


def test_a_data_root_needs_a_data_set_that_reads_a_folder(make, tmp_path):
    with pytest.raises(ConfigError, match='--data-root'):
        load_recipe(make([stage('mim')]), data_root=str(tmp_path))
