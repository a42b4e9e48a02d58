"""AudioCaps' comma-separated table."""

from __future__ import annotations

from isthmus.data.formats.caption_table import PublishedTable
from isthmus.types import Modality


class AudioCaps(PublishedTable):
    """Captions of ten-second recordings.

        audiocap_id,youtube_id,start_time,caption
        97151,vfY_TJq7n_U,130,"Rustling occurs, ducks quack"

    Recordings are named by ``audiocap_id``.
    """

    modality = Modality.AUDIO
    medium_file = "{audiocap_id}.wav"
