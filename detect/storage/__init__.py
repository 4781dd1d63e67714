"""Files of object stores and web servers (`s3://`, `gs://`, `https://`, `hf://` …) as if they were local ones.

    urls.py    what a URL is, and the connection to its store (fsspec; its drivers are the extra `remote`)
    tries.py   one request with retries, and one line for what cannot be repaired by them
    trees.py   the listing of a URL as a folder of empty files in the user's cache, each with the version of its object
    blobs.py   the bounded cache of contents
    fetch.py   what opens a file of such a folder: from the cache, or fetched and checked to be the listed version
    shards.py  files within shards (.tar and .parquet), by paths such as `train-000000.tar/1536+20480/x.jpg`

Commands turn what the user named into a path by `local`, and go on as with any folder. Every file is read through
`detect.utils.atomic_io.open_file`, which comes here for the paths of such folders and for paths that lead into shards.
So no format, dataset or command knows of URLs.
"""

from __future__ import annotations

from detect.storage.urls import is_url

__all__ = ["is_url"]
