"""Additions to a frozen LLM: LoRA and similar adapters, gated cross-attention, and quantisation to 4 or 8 bits."""
