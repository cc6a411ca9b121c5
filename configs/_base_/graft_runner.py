# The runner reads a file of any known format safely; weights that do not fill the backbone are an error.
runner_type = 'mmselfsup_graft.GraftRunner'
custom_imports = dict(
    imports=['mmselfsup_graft.engine', 'mmselfsup_graft.models', 'mmpretrain.models'], allow_failed_imports=False
)
