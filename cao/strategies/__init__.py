"""The strategy families that a policy may choose from, a file each."""

from cao.strategies import calibrate, latent, lora_mix, ttl, tts
from cao.strategies.base import Standing, Strategy

__all__ = ["FAMILIES", "Standing", "Strategy"]

FAMILIES: dict[str, type[Strategy]] = {
    "TTL": ttl.TTL,
    "LORA": lora_mix.LoraMix,
    "TTS": tts.TTS,
    "Latent": latent.Latent,
    "Calibrate": calibrate.Calibrate,
}
"""Family → what it is, in the order in which prompts and tables name them. A new family is a file and a line here."""
