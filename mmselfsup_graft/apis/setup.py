"""``from mmselfsup_graft.apis.setup import register_all_modules``, as scripts for earlier versions have it."""

from mmselfsup_graft.libraries.scopes import import_scope, register_all_modules

__all__ = ['import_scope', 'register_all_modules']
