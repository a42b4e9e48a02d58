"""The LightningModules: InputSide, Backbone, OutputSide, and AnyToAny, the whole forward on one page."""

from isthmus.model.any_to_any import AnyToAny
from isthmus.model.backbone import Backbone
from isthmus.model.input_side import InputSide
from isthmus.model.output_side import OutputSide
from isthmus.model.reply import Reply

__all__ = ["AnyToAny", "Backbone", "InputSide", "OutputSide", "Reply"]
