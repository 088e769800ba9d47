"""One audio file to mono 16-bit samples; whatever that alters is said."""

import io
import pathlib
import struct

import numpy as np
import soundfile
import soxr

EXTENSIONS = (".au", ".flac", ".mp3", ".ogg", ".wav")
RATES_HZ = (1_000, 1_000_000)  # a header that says anything else is damaged
BLOCK = 2**20  # frames
MP3_RATES_HZ = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
UNKNOWN_BYTES = 0x7FFF_0000  # no clip is this long; written by programs that do not know the length beforehand

# What soundfile reads as int16 without loss, and how the depths that are not 16 bits are called.
EXACT = ("PCM_16", "PCM_U8", "PCM_S8", "ULAW", "ALAW")
DEPTHS = {
    **{"PCM_U8": "8 bits", "PCM_S8": "8 bits", "PCM_24": "24 bits", "PCM_32": "32 bits"},
    **{"FLOAT": "float", "DOUBLE": "float"},
}


def is_audio(name: str) -> bool:
    """Whether a file of this name may be audio."""
    return name.lower().endswith(EXTENSIONS)


def read_within(folder: pathlib.Path, path: pathlib.Path) -> bytes:
    """The bytes of a file. Raises ValueError: it cannot be read, or is a link that leads out of `folder`."""
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError("a link that leads out of the release")
        return path.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise ValueError(f"cannot be read ({getattr(error, 'strerror', error)})") from error


def decode(content: bytes, sample_rate_hz: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decodes a .wav, .au, .flac, .mp3 or .ogg file.

    16-bit mono samples at the wanted rate are returned untouched; all else goes through float once: channels are
    averaged, another rate is resampled (soxr, HQ), samples are rounded and clipped to 16 bits.

    Args:
      content: the whole file. sample_rate_hz: of what is returned.

    Returns:
      int16 [samples], and what was altered, of: "converted from 8 bits", "... 24 bits", "... 32 bits", "... float",
      "mixed to mono", "resampled", "clipped"; or noted: "silent" (all samples are zero).

    Raises:
      ValueError: it does not decode, ends before its header says, is empty, or holds NaN or infinite samples.
    """
    check_complete(content)
    audio, rate_hz, subtype = read_samples(content)
    changes = [f"converted from {DEPTHS[subtype]}"] if subtype in DEPTHS else []
    channels = audio.shape[1]
    if channels > 1 or rate_hz != sample_rate_hz or audio.dtype != np.int16:
        mono = finite((audio.astype(np.float32) / 32768 if audio.dtype == np.int16 else audio).mean(1))
        if channels > 1:
            changes.append("mixed to mono")
        if rate_hz != sample_rate_hz:
            mono = finite(soxr.resample(mono, rate_hz, sample_rate_hz, "HQ"))
            changes.append("resampled")
        if len(mono) and max(mono.max(), -mono.min()) > 1:
            changes.append("clipped")
        audio = np.minimum(np.rint(np.clip(mono, -1, 1) * 32768), 32767).astype(np.int16)[:, None]
    if not len(audio):
        raise ValueError("it holds no samples")
    if not audio.any():
        changes.append("silent")
    return audio[:, 0], tuple(changes)


def finite(audio: np.ndarray) -> np.ndarray:
    """The same. Raises ValueError: it holds NaN or infinite samples."""
    if not np.isfinite(audio).all():
        raise ValueError("it holds NaN or infinite samples")
    return audio


def read_samples(content: bytes) -> tuple[np.ndarray, int, str]:
    """Returns [samples, channels] (int16 where that loses nothing, else float32 with full scale 1), rate, subtype."""
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if not RATES_HZ[0] <= file.samplerate <= RATES_HZ[1]:
                raise ValueError(f"its header says a sample rate of {file.samplerate} Hz")
            if content[:4] == b"RIFF" and (file.subtype, file.channels) == ("PCM_16", 1):
                # The commonest case: the samples are the file's own bytes, which saves half of the time.
                start, _ = wav_data(content)
                return np.frombuffer(content, "<i2", file.frames, start)[:, None], file.samplerate, file.subtype
            dtype = "int16" if file.subtype in EXACT else "float32"
            # By blocks: a damaged header may promise more samples than there is memory for.
            blocks = [file.read(BLOCK, dtype, always_2d=True)]
            while len(blocks[-1]) == BLOCK:
                blocks.append(file.read(BLOCK, dtype, always_2d=True))
            audio = np.concatenate(blocks) if len(blocks) > 1 else blocks[0]
            if len(audio) < file.frames:
                raise ValueError(f"truncated: {len(audio)} of the {file.frames} samples that its header says")
            return audio, file.samplerate, file.subtype
    except soundfile.SoundFileError as error:
        raise ValueError(f"does not decode ({getattr(error, 'error_string', error)})") from error


def check_complete(content: bytes) -> None:
    """Raises ValueError where a wav, au or ogg file ends too early, which libsndfile passes over in silence."""
    missing = 0
    if content[:4] in (b"RIFF", b"RIFX"):
        missing = wav_missing(content)
    elif content[:4] in (b".snd", b"dns."):
        missing = au_missing(content)
    elif content[:4] == b"OggS":
        missing = ogg_missing(content)
    if missing > 0:
        raise ValueError(f"truncated: it ends at least {missing} bytes too early")


def wav_data(content: bytes) -> tuple[int, int]:
    """Where the samples of a wav file begin, and how many bytes its header says they are; else its end, and 0."""
    order, position = "<" if content[:4] == b"RIFF" else ">", 12
    while position + 8 <= len(content):
        chunk, size = struct.unpack_from(f"{order}4sI", content, position)
        position += 8
        if chunk == b"data":
            return position, size
        position += size + size % 2
    return len(content), 0


def wav_missing(content: bytes) -> int:
    """How many bytes of its samples a wav file lacks; 0 where its header does not know its size."""
    start, size = wav_data(content)
    return start + size - len(content) if size < UNKNOWN_BYTES else 0


def au_missing(content: bytes) -> int:
    """How many bytes of the samples are not there; 0 where the header does not know their length."""
    if len(content) < 12:
        return 0
    order = ">" if content[:4] == b".snd" else "<"
    offset, size = struct.unpack_from(f"{order}II", content, 4)
    missing = offset + size - len(content) if size < UNKNOWN_BYTES else 0
    return missing if missing > offset else 0  # Some writers count the header as well.


def ogg_missing(content: bytes) -> int:
    """Bytes missing from the last page; 1 where that is whole but not marked as the last."""
    page = content[content.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return 1
    missing = 27 + page[26] + sum(page[27 : 27 + page[26]]) - len(page)
    return missing if missing > 0 else int(not page[5] & 4)


def encode_mp3(audio_T: np.ndarray, sample_rate_hz: int) -> bytes:
    """Mono int16 samples as an MP3 file of about 50 kbit/s; a rate that MP3 does not have becomes 44.1 kHz."""
    if sample_rate_hz not in MP3_RATES_HZ:
        audio_T, sample_rate_hz = soxr.resample(audio_T, sample_rate_hz, 44_100, "HQ"), 44_100
    file = io.BytesIO()
    soundfile.write(file, audio_T, sample_rate_hz, format="MP3")
    return file.getvalue()
