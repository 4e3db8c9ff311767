"""Render engines: a `RenderRequest` in, an MP4 with its thumbnail and measurements out.

`contract.py` holds the words both sides share and imports only the standard library, so that a dispatcher can build a
request without loading numpy or a codec. `errors.py` is the tree of everything that may go wrong. `registry.py` finds
an engine by name and imports it only then. `encode.py` is the one way from frames to MP4, for every engine.
`procedural/` is the first engine: CPU only, made of words and arithmetic.
"""
