"""Shared parts of HTML pages: style, colors, images, charts, maps of images. A page is one self-contained file."""
