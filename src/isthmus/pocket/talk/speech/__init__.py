"""Spoken digits and spoken requests, made by espeak-ng in several voices, to be answered or written down."""

from isthmus.pocket.talk.speech.sources import Dictation, SpokenDigits, SpokenRequests

__all__ = ["Dictation", "SpokenDigits", "SpokenRequests"]
