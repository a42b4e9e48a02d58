"""Stored answers as files of other projects' layouts, for scorers that are programs of their own."""

from isthmus.evaluation.exports.dpg_bench import DPGBenchGrids
from isthmus.evaluation.exports.files import AnswerFiles
from isthmus.evaluation.exports.gen_eval import GenEvalFolders

__all__ = ["AnswerFiles", "DPGBenchGrids", "GenEvalFolders"]
