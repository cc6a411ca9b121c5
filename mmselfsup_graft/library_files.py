"""Alias for configs written by earlier versions, which import this module."""

from mmselfsup_graft.libraries import weight_files

__all__ = ['weight_files']
