"""P and text -> text and S (B, S, E). One file for each kind of LLM; the interface is in base.py."""

from isthmus.backbones.adapters.gated_fusion import FusionSettings
from isthmus.backbones.adapters.lora import LoraSettings
from isthmus.backbones.adapters.quantization import QuantizationSettings
from isthmus.backbones.causal import CausalBackbone
from isthmus.backbones.encoder_decoder import EncoderDecoderBackbone

__all__ = ["CausalBackbone", "EncoderDecoderBackbone", "FusionSettings", "LoraSettings", "QuantizationSettings"]
