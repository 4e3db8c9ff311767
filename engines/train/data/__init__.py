"""Data: any source becomes one prepared set, once; a step's batch is then a lookup.

`addresses` reads where a set in S3 lies; `shapes` draws a set, `images` reads a folder, tar or zip of images per class;
`prepared` stores what they give as plain arrays in the cache, whole or not at all, and opens it; `order` says which
examples step n takes; `batches` hands them to torch. What must hold: every image is decoded before the first step, so
that a broken one costs no GPU second; a set is made once per cache. No module here but `batches` needs torch.
"""
