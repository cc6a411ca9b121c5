"""The same models as other libraries build them."""
