"""Data: any source becomes one prepared set, once; a step's batch is then a lookup.

    addresses   where a set may lie: S3, a path; which of them a job may name
    sources     a folder, a tar, a zip -> what is in it, file by file, and why some of it is not read (`files`)
    chosen      a listing -> examples with class and part, and a sentence for each reason to leave something out
                (`kinds`: what a name says of a file; `layout`: which folders are classes and which are splits)
    pictures    bytes -> the square that a viewer would show, within the pixels of all decoders together (`budget`)
    images      these together: a source opened, and all of its examples decoded
    shapes      the set that is drawn
    prepared    what they give as plain arrays in the cache, whole or not at all; opens it
    order       which examples step n takes
    batches     hands them to torch

What must hold: nothing of a source is trusted, and nothing of it goes without a word; every image is decoded before the
first step, so that a broken one costs no GPU second; a set is made once per cache and version of this code. No module
here but `batches` needs torch.
"""
