"""One audio file to mono 16-bit samples; whatever that alters is said."""

import io

import numpy as np
import soundfile
import soxr

from audiojax.data.containers import BLOCK, check_complete, samples_span

RATES_HZ = (1_000, 1_000_000)  # a header that says anything else is damaged
MP3_RATES_HZ = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)

# What soundfile reads as int16 without loss, and how the depths that are not 16 bits are called.
EXACT = ("PCM_16", "PCM_U8", "PCM_S8", "ULAW", "ALAW")
DEPTHS = {
    **{"PCM_U8": "8 bits", "PCM_S8": "8 bits", "PCM_24": "24 bits", "PCM_32": "32 bits"},
    **{"FLOAT": "float", "DOUBLE": "float"},
}
MISREAD = ("ALAC_20", "ALAC_24", "ALAC_32")  # libsndfile's samples of noise are not those that were written
SAMPLE_BYTES = {
    **{"PCM_U8": 1, "PCM_S8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2},
    **{"PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8},
}

# Float samples with full scale 1: up to FLOAT_PEAK they are loud, beyond MOST_FLOAT_PEAK they mean something else.
FLOAT_PEAK, MOST_FLOAT_PEAK = 2, 100
QUIET_PEAK = 2**7  # of int16: what 16-bit samples in a 24-bit file reach if nobody scales them


def decode(content: bytes, sample_rate_hz: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decodes an audio file of any container whose end can be checked, whatever its name says.

    Those are wav (RIFX, RF64 and W64 too), au, AIFF, CAF, NIST, FLAC, Ogg and MP3, and the rarer VOC, SVX, AVR, WVE,
    MPC2K, HTK, MAT4 and MAT5, with or without ID3 tags. 16-bit mono samples at the wanted rate are returned untouched;
    all else goes through float once: channels are averaged, another rate is resampled (soxr, HQ), samples are rounded
    and clipped to 16 bits.

    Args:
      content: the whole file. sample_rate_hz: of what is returned.

    Returns:
      int16 [samples], and what was altered, of: "with header size corrected" (the size is 0 or counts the header; all
      bytes are read), "converted from 8 bits", "... 24 bits", "... 32 bits", "... float", "scaled from float in the
      range of int16", "mixed to mono", "resampled", "clipped"; or noted: "of unknown length" (the header does not say
      it, so a file that was cut looks whole), "very quiet (peak below -48 dB)", "silent" (all samples are zero).

    Raises:
      ValueError: it does not decode, ends before its header says, is empty, holds NaN or infinite samples, or float
        samples far beyond full scale.
    """
    audio, rate_hz, subtype, noted = read_samples(content)
    changes = [*noted, *([f"converted from {DEPTHS[subtype]}"] if subtype in DEPTHS else [])]
    channels = audio.shape[1]
    if channels > 1 or rate_hz != sample_rate_hz or audio.dtype != np.int16:
        if audio.dtype == np.int16:
            audio = audio.astype(np.float32) / 32768
        elif in_int16_range(finite(audio)):
            audio = audio / 32768
            changes.append("scaled from float in the range of int16")
        mono = audio.mean(1)
        if channels > 1:
            changes.append("mixed to mono")
        if rate_hz != sample_rate_hz:
            mono = finite(soxr.resample(mono, rate_hz, sample_rate_hz, "HQ"))
            changes.append("resampled")
        if peak_of(mono) > 1:
            changes.append("clipped")
        audio = np.minimum(np.rint(np.clip(mono, -1, 1) * 32768), 32767).astype(np.int16)[:, None]
    if not len(audio):
        raise ValueError("it holds no samples")
    if audio.max() <= QUIET_PEAK and (peak := peak_of(audio)) <= QUIET_PEAK:
        changes.append("very quiet (peak below -48 dB)" if peak else "silent")
    return audio[:, 0], tuple(changes)


def finite(audio: np.ndarray) -> np.ndarray:
    """The same. Raises ValueError: it holds NaN or infinite samples."""
    if not np.isfinite(audio).all():
        raise ValueError("it holds NaN or infinite samples")
    return audio


def peak_of(audio: np.ndarray) -> float:
    """The largest magnitude; 0 where there is nothing."""
    return max(float(audio.max()), -float(audio.min())) if audio.size else 0.0


def in_int16_range(audio: np.ndarray) -> bool:
    """Whether float samples are whole numbers of 16 bits. Raises ValueError: they are far beyond full scale."""
    peak = peak_of(audio)
    if FLOAT_PEAK < peak <= 32768 and (audio == np.rint(audio)).all():
        return True
    if peak > MOST_FLOAT_PEAK:
        raise ValueError(f"its float samples reach {peak:,.0f} where full scale is 1; divide them by their full scale")
    return False


def read_samples(content: bytes) -> tuple[np.ndarray, int, str, list[str]]:
    """Decodes a file whose end it has checked.

    Returns:
      [samples, channels] (int16 where that loses nothing, else float32 with full scale 1), rate, subtype, and what to
      note of its header.

    Raises:
      ValueError: it does not decode, or holds fewer samples than its header says.
    """
    content, noted = check_complete(content)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if not RATES_HZ[0] <= file.samplerate <= RATES_HZ[1]:
                raise ValueError(f"its header says a sample rate of {file.samplerate} Hz")
            if (span := samples_span(content)) is not None:
                check_frames(file, span[1])
            elif file.format not in ("FLAC", "OGG", "MP3"):
                name = soundfile.available_formats().get(file.format, file.format)
                raise ValueError(f"{name} is not read, for a cut file of it looks whole; convert it to wav or flac")
            if file.subtype in MISREAD:
                raise ValueError(f"{file.subtype} is not read, for libsndfile decodes it wrongly; convert it to flac")
            if content[:4] == b"RIFF" and (file.subtype, file.channels) == ("PCM_16", 1):
                # The commonest case: the samples are the file's own bytes, which saves half of the time.
                return np.frombuffer(content, "<i2", file.frames, span[0])[:, None], file.samplerate, "PCM_16", noted
            dtype = "int16" if file.subtype in EXACT else "float32"
            # By blocks: a damaged header may promise more samples than there is memory for.
            block = max(BLOCK // file.channels, 1)
            blocks = [file.read(block, dtype, always_2d=True)]
            while len(blocks[-1]) == block:
                blocks.append(file.read(block, dtype, always_2d=True))
            audio = np.concatenate(blocks) if len(blocks) > 1 else blocks[0]
            if len(audio) < file.frames:
                raise ValueError(f"truncated: {len(audio)} of the {file.frames} samples that its header says")
            if file.subtype == "GSM610":  # libsndfile takes what follows an odd number of bytes for one more block.
                block_bytes, block = (33, 160) if file.format == "AIFF" else (65, 320)
                audio = audio[: span[1] // block_bytes * block]
            return audio, file.samplerate, file.subtype, noted
    except soundfile.SoundFileError as error:
        raise ValueError(f"does not decode ({getattr(error, 'error_string', error)})") from error


def check_frames(file: soundfile.SoundFile, size: int) -> None:
    """Raises ValueError where libsndfile finds another number of samples than `size` bytes hold."""
    if (width := SAMPLE_BYTES.get(file.subtype)) and file.frames != size // (width * file.channels):
        frames = size // (width * file.channels)
        raise ValueError(f"does not decode (its header says {frames} samples, {file.frames} are found)")


def encode_mp3(audio_T: np.ndarray, sample_rate_hz: int) -> bytes:
    """Mono int16 samples as an MP3 file of about 50 kbit/s; a rate that MP3 does not have becomes 44.1 kHz."""
    if sample_rate_hz not in MP3_RATES_HZ:
        audio_T, sample_rate_hz = soxr.resample(audio_T, sample_rate_hz, 44_100, "HQ"), 44_100
    file = io.BytesIO()
    soundfile.write(file, audio_T, sample_rate_hz, format="MP3")
    return file.getvalue()
