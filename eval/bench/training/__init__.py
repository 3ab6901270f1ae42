"""Our LoRA loops beside the public trainer."""
