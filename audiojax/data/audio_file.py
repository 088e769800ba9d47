"""Decoding of an audio file to mono 16-bit samples, with a list of what that changes."""

import io

import numpy as np
import soundfile
import soxr

from audiojax.data.containers import BLOCK, check_complete, samples_span

RATES_HZ = (1_000, 1_000_000)  # a header with another rate is damaged
MP3_RATES_HZ = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)

# Subtypes that soundfile reads as int16 without loss, and what messages call other depths than 16 bits.
EXACT = ("PCM_16", "PCM_U8", "PCM_S8", "ULAW", "ALAW")
DEPTHS = {
    **{"PCM_U8": "8 bits", "PCM_S8": "8 bits", "PCM_24": "24 bits", "PCM_32": "32 bits"},
    **{"FLOAT": "float", "DOUBLE": "float"},
}
MISREAD = ("ALAC_20", "ALAC_24", "ALAC_32")  # libsndfile decodes noise to other samples than were written
SAMPLE_BYTES = {
    **{"PCM_U8": 1, "PCM_S8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2},
    **{"PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8},
}

# Full scale of float samples is 1. A peak above FLOAT_PEAK may mean int16 values, above MOST_FLOAT_PEAK it must.
FLOAT_PEAK, MOST_FLOAT_PEAK = 2, 100
QUIET_PEAK = 2**7  # int16 peak of 16-bit samples that were stored in a 24-bit file without scaling


def decode(content: bytes, sample_rate_hz: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decodes an audio file, whatever its name says.

    Reads the containers whose end can be checked: wav (also RIFX, RF64, W64), au, AIFF, CAF, NIST, FLAC, Ogg and MP3,
    and the rarer VOC, SVX, AVR, WVE, MPC2K, HTK, MAT4 and MAT5, all with or without ID3 tags. 16-bit mono samples at
    the wanted rate stay as they are. Others become float: channels are averaged, the rate is converted (soxr, HQ), and
    samples are rounded and clipped to 16 bits.

    Args:
      content: the whole file. sample_rate_hz: the wanted rate.

    Returns:
      samples int16 [T]; what was changed or is unusual, of: "with header size corrected" (the size was 0 or counted the
      header), "of unknown length" (the header does not have it, so a cut file looks whole), "converted from 8 bits" (24
      bits, 32 bits, float), "scaled from float in the range of int16", "mixed to mono", "resampled", "clipped", "very
      quiet (peak below -48 dB)", "silent" (only zeros).

    Raises:
      ValueError: it does not decode, is truncated or empty, or holds samples that are NaN, infinite or far beyond full
        scale.
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
    """Returns `audio`. Raises ValueError where it holds NaN or infinite samples."""
    if not np.isfinite(audio).all():
        raise ValueError("it holds NaN or infinite samples")
    return audio


def peak_of(audio: np.ndarray) -> float:
    """The largest magnitude; 0 without samples."""
    return max(float(audio.max()), -float(audio.min())) if audio.size else 0.0


def in_int16_range(audio: np.ndarray) -> bool:
    """Whether float samples are 16-bit whole numbers. Raises ValueError: they are not, and far beyond full scale."""
    peak = peak_of(audio)
    if FLOAT_PEAK < peak <= 32768 and (audio == np.rint(audio)).all():
        return True
    if peak > MOST_FLOAT_PEAK:
        raise ValueError(f"its float samples reach {peak:,.0f} where full scale is 1; divide them by their full scale")
    return False


def read_samples(content: bytes) -> tuple[np.ndarray, int, str, list[str]]:
    """Samples [T, channels] of a file, its rate in Hz, its subtype, and what is unusual about its header.

    Samples are int16 where that is lossless, else float32. Raises ValueError where it does not decode or is truncated.
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
                # The most common case. The samples are the bytes of the file, which saves half of the time.
                return np.frombuffer(content, "<i2", file.frames, span[0])[:, None], file.samplerate, "PCM_16", noted
            dtype = "int16" if file.subtype in EXACT else "float32"
            # Read in blocks, for a damaged header may announce more samples than memory holds.
            block = max(BLOCK // file.channels, 1)
            blocks = [file.read(block, dtype, always_2d=True)]
            while len(blocks[-1]) == block:
                blocks.append(file.read(block, dtype, always_2d=True))
            audio = np.concatenate(blocks) if len(blocks) > 1 else blocks[0]
            if len(audio) < file.frames:
                raise ValueError(f"truncated: {len(audio)} of the {file.frames} samples that its header says")
            if file.subtype == "GSM610":  # libsndfile reads a padding byte as one more block.
                block_bytes, block = (33, 160) if file.format == "AIFF" else (65, 320)
                audio = audio[: span[1] // block_bytes * block]
            return audio, file.samplerate, file.subtype, noted
    except soundfile.SoundFileError as error:
        raise ValueError(f"does not decode ({getattr(error, 'error_string', error)})") from error


def check_frames(file: soundfile.SoundFile, size: int) -> None:
    """Raises ValueError where libsndfile finds another number of samples than fit in `size` bytes."""
    if (width := SAMPLE_BYTES.get(file.subtype)) and file.frames != size // (width * file.channels):
        frames = size // (width * file.channels)
        raise ValueError(f"does not decode (its header says {frames} samples, {file.frames} are found)")


def encode_mp3(audio_T: np.ndarray, sample_rate_hz: int) -> bytes:
    """Encodes mono int16 samples as MP3 of about 50 kbit/s. A rate that MP3 does not have becomes 44.1 kHz."""
    if sample_rate_hz not in MP3_RATES_HZ:
        audio_T, sample_rate_hz = soxr.resample(audio_T, sample_rate_hz, 44_100, "HQ"), 44_100
    file = io.BytesIO()
    soundfile.write(file, audio_T, sample_rate_hz, format="MP3")
    return file.getvalue()
