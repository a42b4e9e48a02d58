"""Spoken digits and spoken requests, made by espeak-ng in several voices."""

from isthmus.pocket.talk.speech.sources import SpokenDigits, SpokenRequests

__all__ = ["SpokenDigits", "SpokenRequests"]
