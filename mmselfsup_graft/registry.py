"""Registry nodes of scope ``mmselfsup_graft``, each a child of mmengine's root of the same name.

``locations`` lets mmengine import the right sub-package the first time a type is looked up, so
``import mmselfsup_graft`` itself imports none of them.
"""

from mmengine import registry as mmengine_roots
from mmengine.registry import Registry

SCOPE = 'mmselfsup_graft'


def _child(root: str, name: str, *packages: str) -> Registry:
    locations = [f'{SCOPE}.{package}' for package in packages]
    return Registry(name, parent=getattr(mmengine_roots, root), scope=SCOPE, locations=locations)


RUNNERS = _child('RUNNERS', 'runner', 'engine')
LOOPS = _child('LOOPS', 'loop', 'engine')
HOOKS = _child('HOOKS', 'hook', 'engine', 'evaluation', 'analysis')
LOG_PROCESSORS = _child('LOG_PROCESSORS', 'log processor', 'engine')
OPTIMIZERS = _child('OPTIMIZERS', 'optimizer', 'engine')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS', 'optimizer wrapper', 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS', 'optimizer wrapper constructor', 'engine')
PARAM_SCHEDULERS = _child('PARAM_SCHEDULERS', 'parameter scheduler', 'engine')
DATASETS = _child('DATASETS', 'dataset', 'datasets')
DATA_SAMPLERS = _child('DATA_SAMPLERS', 'data sampler', 'datasets')
TRANSFORMS = _child('TRANSFORMS', 'transform', 'datasets')
FUNCTIONS = _child('FUNCTIONS', 'function', 'datasets')
MODELS = _child('MODELS', 'model', 'models')
MODEL_WRAPPERS = _child('MODEL_WRAPPERS', 'model wrapper', 'engine')
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS', 'weight initializer', 'models')
TASK_UTILS = _child('TASK_UTILS', 'task util', 'models')
METRICS = _child('METRICS', 'metric', 'evaluation')
EVALUATOR = _child('EVALUATOR', 'evaluator', 'evaluation')
VISUALIZERS = _child('VISUALIZERS', 'visualizer', 'engine')
VISBACKENDS = _child('VISBACKENDS', 'vis_backend', 'engine')
# our own: the protocols of a config's `evaluation` section
PROTOCOLS = Registry('evaluation protocol', scope=SCOPE, locations=[f'{SCOPE}.evaluation'])
