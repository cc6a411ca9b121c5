"""The manifest of a stored copy or a folder of archives."""

MANIFEST_NAME = 'manifest.json'
