"""Import paths of earlier versions that scripts use; the public functions are those of ``mmselfsup_graft`` itself."""
