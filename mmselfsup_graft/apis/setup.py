"""Alias for scripts written for earlier versions."""

from mmselfsup_graft.libraries.scopes import import_scope, register_all_modules

__all__ = ['import_scope', 'register_all_modules']
