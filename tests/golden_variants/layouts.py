"""Layouts of checkpoints that the committed set does not hold, by the rules of the published codes."""

from .files import Json


def swin(stages: int) -> Json:
    """A Swin of the release, as SimMIM stores it, and what OpenMMLab's class calls it."""
    rows: list[tuple[str, list[int], str]] = []

    def add(name: str, *shape: int, to: str = '', what: str = 'identity') -> None:
        rows.append((name, list(shape), to and f'{to} {what}'))

    for kind in ('weight', 'bias'):
        add(
            f'patch_embed.proj.{kind}',
            *((8, 3, 4, 4) if kind == 'weight' else (8,)),
            to=f'patch_embed.projection.{kind}',
        )
    for stage in range(stages):
        width = 8 * 2**stage
        old, new = f'layers.{stage}.blocks.0', f'stages.{stage}.blocks.0'
        add(f'{old}.attn.relative_position_bias_table', 9, 2, to=f'{new}.attn.w_msa.relative_position_bias_table')
        add(f'{old}.attn.qkv.weight', 3 * width, width, to=f'{new}.attn.w_msa.qkv.weight')
        add(f'{old}.mlp.fc1.bias', 4 * width, to=f'{new}.ffn.layers.0.0.bias')
        add(f'{old}.mlp.fc2.bias', width, to=f'{new}.ffn.layers.1.bias')
        add(f'{old}.attn_mask', 4, 4)
        if stage < stages - 1:
            merge = 'downsample.reduction.weight'
            add(f'layers.{stage}.{merge}', 2 * width, 4 * width, to=f'stages.{stage}.{merge}', what='another order')
            norm = 'downsample.norm.bias'
            add(f'layers.{stage}.{norm}', 4 * width, to=f'stages.{stage}.{norm}', what='another order')
    add('norm.weight', 8 * 2 ** (stages - 1), to=f'norm{stages - 1}.weight')
    mapped = [[f'encoder.{name}', *to.split(' ', 1)] for name, _, to in rows if to]
    return {
        'checkpoint': {'wrapper': 'model', 'siblings': ['config', 'lr_scheduler']},
        'source': [['mask_token', [1, 1, 8], 'float32'], *([f'encoder.{n}', s, 'float32'] for n, s, _ in rows)],
        'targets': [{'target': f'{each}.SwinTransformer', 'map': mapped} for each in ('mmpretrain', 'mmdet', 'mmseg')],
    }


def shared_table(depth: int) -> Json:
    """A ViT as SimMIM stores it; the table that its blocks share stays one, or goes to each."""
    shapes: dict[str, list[int]] = {
        'cls_token': [1, 1, 8],
        'patch_embed.proj.weight': [8, 3, 4, 4],
        'rel_pos_bias.relative_position_bias_table': [12, 2],
    }
    names = {'cls_token': 'cls_token', 'patch_embed.proj.weight': 'patch_embed.projection.weight'}
    for block in range(depth):
        old, new = f'blocks.{block}', f'layers.{block}'
        for name, other, shape in (
            ('gamma_1', 'gamma_1', [8]),
            ('norm1.weight', 'ln1.weight', [8]),
            ('attn.q_bias', 'attn.q_bias', [8]),
            ('attn.v_bias', 'attn.v_bias', [8]),
            ('attn.qkv.weight', 'attn.qkv.weight', [24, 8]),
            ('mlp.fc1.weight', 'ffn.layers.0.0.weight', [16, 8]),
        ):
            shapes[f'{old}.{name}'], names[f'{old}.{name}'] = shape, f'{new}.{other}'
    table = 'rel_pos_bias.relative_position_bias_table'
    kept = [[f'encoder.{old}', new, 'identity'] for old, new in names.items()]
    one = [*kept, [f'encoder.{table}', table, 'identity']]
    own = [[f'encoder.{table}', f'layers.{i}.attn.{table.partition(".")[2]}', 'a copy each'] for i in range(depth)]
    return {
        'checkpoint': {'wrapper': 'model'},
        'source': [[f'encoder.{name}', shape, 'float32'] for name, shape in shapes.items()],
        'targets': [{'target': 'mmpretrain.BEiTViT', 'map': each} for each in (one, [*kept, *own])],
    }
