"""The file that says what a stored copy or a folder of archives holds."""

MANIFEST_NAME = 'manifest.json'
