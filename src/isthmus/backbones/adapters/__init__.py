"""What is added to a frozen LLM: LoRA and its kin, gated cross-attention, and storage in 4 or 8 bits."""
