"""Public benchmarks in their official layouts, each one class; docs/public_benchmarks.md says where to get them."""

from isthmus.data.formats.benchmarks.coco import CocoCaptions, CocoPrompts
from isthmus.data.formats.benchmarks.judged import WISE, GEditBench, ImgEdit
from isthmus.data.formats.benchmarks.mmmu import MMMU
from isthmus.data.formats.benchmarks.model_net import ModelNet40
from isthmus.data.formats.benchmarks.mosit import MosIT
from isthmus.data.formats.benchmarks.msr_vtt import MSRVTT
from isthmus.data.formats.benchmarks.point_llm import PointLLMObjects
from isthmus.data.formats.benchmarks.pope import Pope
from isthmus.data.formats.benchmarks.prompt_sets import DPGBench, GenEval, T2ICompBench, VBench
from isthmus.data.formats.benchmarks.sounds import AudioCapsClips, Clotho
from isthmus.data.formats.benchmarks.vqa import VQAv2

__all__ = [
    "MMMU",
    "MSRVTT",
    "WISE",
    "AudioCapsClips",
    "Clotho",
    "CocoCaptions",
    "CocoPrompts",
    "DPGBench",
    "GEditBench",
    "GenEval",
    "ImgEdit",
    "ModelNet40",
    "MosIT",
    "PointLLMObjects",
    "Pope",
    "T2ICompBench",
    "VBench",
    "VQAv2",
]
