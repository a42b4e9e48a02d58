"""P and text -> text and S (B, S, E). One file a kind of LLM; the contract stands in base.py."""

from isthmus.backbones.causal import CausalBackbone
from isthmus.backbones.encoder_decoder import EncoderDecoderBackbone
from isthmus.backbones.gated_fusion import FusionSettings
from isthmus.backbones.lora import LoraSettings
from isthmus.backbones.quantization import QuantizationSettings

__all__ = ["CausalBackbone", "EncoderDecoderBackbone", "FusionSettings", "LoraSettings", "QuantizationSettings"]
