"""Sets as shards: large files of many conversations with their media, on a disk or in an object store."""

from isthmus.data.streaming.source import Shards

__all__ = ["Shards"]
