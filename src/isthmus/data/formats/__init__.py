"""Sets in the formats that other projects publish, each one class."""

from isthmus.data.formats.alpaca import Alpaca
from isthmus.data.formats.audiocaps import AudioCaps
from isthmus.data.formats.cap3d import Cap3D
from isthmus.data.formats.caption_table import CaptionTable
from isthmus.data.formats.cc3m import CC3M
from isthmus.data.formats.hugging_face import HuggingFace
from isthmus.data.formats.llava import Llava
from isthmus.data.formats.manifest import ManifestSource
from isthmus.data.formats.media_folder import MediaFolder
from isthmus.data.formats.mmc4 import MMC4
from isthmus.data.formats.nextgpt_folder import NextGPTFolder
from isthmus.data.formats.nextgpt_instructions import NextGPTInstructions
from isthmus.data.formats.nextgpt_pairs import NextGPTPairs
from isthmus.data.formats.obelics import Obelics
from isthmus.data.formats.sharegpt import ShareGPT
from isthmus.data.formats.videochat import VideoChat
from isthmus.data.formats.web_dataset import WebDataset
from isthmus.data.formats.webvid import WebVid

__all__ = [
    "CC3M",
    "MMC4",
    "Alpaca",
    "AudioCaps",
    "Cap3D",
    "CaptionTable",
    "HuggingFace",
    "Llava",
    "ManifestSource",
    "MediaFolder",
    "NextGPTFolder",
    "NextGPTInstructions",
    "NextGPTPairs",
    "Obelics",
    "ShareGPT",
    "VideoChat",
    "WebDataset",
    "WebVid",
]
