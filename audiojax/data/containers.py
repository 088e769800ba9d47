"""Checks that audio files are as long as their headers say.

libsndfile reads many containers up to the end of the file, so it reads a truncated file without an error.
`check_complete` reads the length from the header instead.
"""

import functools
import hashlib
import io
import math
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import soundfile

BLOCK = 2**20  # samples that are decoded at a time
UNKNOWN_BYTES = 0x7FFF_0000  # from this size on, a program did not know the length when it wrote the header
MP3_DELAY = 529  # samples, of an MP3 decoder
FLAC_STARTS = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")  # mark of a FLAC file and head of its first block
FLAC_SAMPLES = 2**36  # the number of samples of a FLAC file is below
MAT4_START, MAT4_START_BIG = struct.pack("<3I", 0, 1, 1), struct.pack(">3I", 1000, 1, 1)
UNKNOWN_LENGTH, SIZE_CORRECTED = "of unknown length", "with header size corrected"


class Chunks(NamedTuple):
    """Layout of a container of chunks, which begin with a name and a size.

    size: struct format of the size. name_bytes: length of the name. first: position of the first chunk.
    alignment: of chunks, in bytes. data: name of the chunk of samples. inner: bytes before the samples in that chunk.
    counts_head: whether the size counts the name and the size.
    """

    size: str
    name_bytes: int
    first: int
    alignment: int
    data: bytes
    inner: int = 0
    counts_head: bool = False

    @property
    def head(self) -> int:
        return self.name_bytes + struct.calcsize(self.size)


CHUNKED = {
    b"RIFF": Chunks("<I", 4, 12, 2, b"data"),
    b"RIFX": Chunks(">I", 4, 12, 2, b"data"),
    b"riff": Chunks("<Q", 16, 40, 8, b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", counts_head=True),
    b"caff": Chunks(">q", 4, 8, 1, b"data", inner=4),
    b"AIFF": Chunks(">I", 4, 12, 2, b"SSND", inner=8),
    b"AIFC": Chunks(">I", 4, 12, 2, b"SSND", inner=8),
    b"8SVX": Chunks(">I", 4, 12, 2, b"BODY"),
    b"16SV": Chunks(">I", 4, 12, 2, b"BODY"),
}


def check_complete(content: bytes) -> tuple[bytes, list[str]]:
    """The file without ID3 tags and with the right size in its header, and what is unusual about that size.

    Raises:
      ValueError: it is truncated, holds several streams, or its header cannot be read.
    """
    content = content[tags_bytes(content) :]
    try:
        if content[:4] in (b"RF64", b"BW64"):
            content = riff(content)
        if content[:4] == b"OggS":
            check_ogg(content)
        elif content[:4] == b"fLaC":
            return mend_flac(content)
        elif content[:1] == b"\xff":
            return mend_mp3(content)
        elif (span := samples_span(content)) is not None:
            return mend_size(content, *span)
        return content, []
    except (struct.error, IndexError) as error:
        raise ValueError("does not decode (it ends within its header)") from error


def truncated(missing: int) -> ValueError:
    return ValueError(f"truncated: it ends at least {missing} bytes too early")


def tags_bytes(content: bytes) -> int:
    """Length of the ID3v2 tags at the beginning."""
    end = 0
    while content[end : end + 3] == b"ID3" and len(content) >= end + 10:
        end += 10 + syncsafe(content[end + 6 : end + 10]) + (10 if content[end + 5] & 0x10 else 0)
    return end


def syncsafe(size: bytes) -> int:
    """A number with seven bits a byte, as in ID3."""
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(size)))


def end_without_tags(content: bytes) -> int:
    """Position of the ID3 tags at the end, or else of the end."""
    end = len(content)
    if content[end - 128 : end - 125] == b"TAG":
        end -= 128
    if content[end - 10 : end - 7] == b"3DI":
        end -= 20 + syncsafe(content[end - 4 : end])
    return max(end, 0)


def samples_span(content: bytes) -> tuple[int, int] | None:
    """Position of the samples and their size in bytes as the header has it; None where it does not have it.

    Raises:
      ValueError: there are no samples, or several pieces of them. struct.error: the file ends within its header.
    """
    if content[:4] in (b".snd", b"dns."):
        return struct.unpack_from(">II" if content[:4] == b".snd" else "<II", content, 4)
    if content[:4] == b"NIST":
        return nist_span(content)
    if content[:19] == b"Creative Voice File":
        spans = voc_spans(content)
    elif content[:8] == b"MATLAB 5":
        return mat5_span(content)
    elif layout := chunk_layout(content):
        spans = [
            (start + layout.inner, size - layout.inner if size >= 0 else UNKNOWN_BYTES)
            for name, start, size in chunks(content, layout)
            if name == layout.data
        ]
    else:
        return fixed_span(content)
    if len(spans) != 1:
        raise ValueError(
            "its samples are in several pieces; write it again as one" if spans else "does not decode (no samples)"
        )
    return spans[0]


def chunk_layout(content: bytes) -> Chunks | None:
    return CHUNKED.get(content[8:12] if content[:4] == b"FORM" else content[:4])


def chunks(content: bytes, layout: Chunks) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and size of each chunk."""
    position = layout.first
    while position + layout.head <= len(content):
        name = content[position : position + layout.name_bytes]
        (size,) = struct.unpack_from(layout.size, content, position + layout.name_bytes)
        position += layout.head
        size -= layout.head if layout.counts_head else 0
        yield name, position, size
        if size < 0 or not any(name):
            return
        position += size + -size % layout.alignment


def nist_span(content: bytes) -> tuple[int, int]:
    header = content[:1024]
    fields = {name: int(value) for name, value in re.findall(rb"(\w+) -i (\d{1,12})\s", header)}
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    fields.setdefault(b"sample_n_bytes", 1)  # of u-law and A-law
    if not header[8:16].strip().isdigit() or any(name not in fields for name in names):
        raise ValueError("does not decode (a NIST header without its length)")
    return int(header[8:16]), math.prod(fields[name] for name in names)


def voc_spans(content: bytes) -> list[tuple[int, int]]:
    """Start and size of each block of sound or silence."""
    spans, (position,) = [], struct.unpack_from("<H", content, 20)
    while position + 4 <= len(content) and (kind := content[position]):
        size = int.from_bytes(content[position + 1 : position + 4], "little")
        if kind in (1, 2, 3, 9):
            inner = {1: 2, 9: 12}.get(kind, 0)
            spans.append((position + 4 + inner, size - inner))
        position += 4 + size
    return spans


def mat5_span(content: bytes) -> tuple[int, int]:
    """The span of the second matrix (flags, dimensions, name, samples), behind that of the sample rate."""
    order = "<" if content[126:128] == b"IM" else ">"
    position = 136 + struct.unpack_from(f"{order}I", content, 132)[0] + 40
    kind, size = struct.unpack_from(f"{order}II", content, position)
    position += 8 if kind >> 16 else 8 + size + -size % 8  # up to four letters of a name are part of its head
    return position + 8, struct.unpack_from(f"{order}I", content, position + 4)[0]


def fixed_span(content: bytes) -> tuple[int, int] | None:
    """The span of containers whose header always has the same fields."""
    if content[:4] == b"2BIT":  # AVR
        stereo, bits = struct.unpack_from(">HH", content, 12)
        return 128, struct.unpack_from(">I", content, 26)[0] * (1 + (stereo & 1)) * bits // 8
    if content[:13] == b"ALawSoundFile":  # WVE
        return 32, struct.unpack_from(">I", content, 18)[0]
    if content[:2] == b"\x01\x04":  # MPC2K
        return 42, struct.unpack_from("<I", content, 30)[0] * (4 if content[21] else 2)
    if content[8:12] == b"\x00\x02\x00\x00" and len(content) >= 12:  # HTK
        return 12, 2 * struct.unpack_from(">I", content)[0]
    if content[:12] in (MAT4_START, MAT4_START_BIG):
        return mat4_span(content, "<" if content[:12] == MAT4_START else ">")
    return None


def mat4_span(content: bytes, order: str) -> tuple[int, int]:
    """The span of the second matrix, behind that of the sample rate, which is one double."""
    start = 20 + struct.unpack_from(f"{order}I", content, 16)[0] + 8
    kind, rows, columns, _, name_bytes = struct.unpack_from(f"{order}5I", content, start)
    width = {0: 8, 1: 4, 2: 4, 3: 2}.get(kind // 10 % 10, 1)
    return start + 20 + name_bytes, rows * columns * width


def riff(content: bytes) -> bytes:
    """An RF64 file as a RIFF file, with the size of the chunk ds64 in the chunk of samples."""
    content = b"RIFF" + content[4:]
    spans = {name: (start, size) for name, start, size in chunks(content, CHUNKED[b"RIFF"])}
    if b"ds64" not in spans or b"data" not in spans or spans[b"data"][1] != 0xFFFF_FFFF:
        return content
    (size,) = struct.unpack_from("<Q", content, spans[b"ds64"][0] + 8)
    start = spans[b"data"][0]
    if len(content) - start < size < 2**64 - 1:
        raise truncated(start + size - len(content))
    return with_size(content, start, min(size, 0xFFFF_FFFF))


def with_size(content: bytes, start: int, size: int) -> bytes:
    """The file with another size of the samples in its header."""
    if layout := chunk_layout(content):
        field = struct.pack(layout.size, size + layout.inner + (layout.head if layout.counts_head else 0))
        end = start - layout.inner
    else:
        field, end = struct.pack(">I" if content[:4] == b".snd" else "<I", size), 12
    return content[: end - len(field)] + field + content[end:]


def mend_size(content: bytes, start: int, size: int) -> tuple[bytes, list[str]]:
    """The file with the right size in its header, and what is unusual about it. Raises ValueError: it is truncated."""
    available, missing = end_without_tags(content) - start, start + size - len(content)
    is_wav, is_au = content[:4] in (b"RIFF", b"RIFX"), content[:4] in (b".snd", b"dns.")
    unknown = missing > 0 and size >= UNKNOWN_BYTES and (is_au or chunk_layout(content) is not None)
    unclosed = size == 0 < available and (is_au or is_wav and not ends_with_chunk(content))
    counts_header = missing == start and (is_au or is_wav) or missing > 0 and is_wav and ends_at_end(content)
    if unknown or unclosed or counts_header:
        return with_size(content, start, max(available, 0)), [UNKNOWN_LENGTH if unknown else SIZE_CORRECTED]
    if missing > 0:
        raise truncated(missing)
    if is_wav or content[:4] == b"caff" or content[8:11] == b"AIF":
        return content, []  # Other chunks may follow the samples.
    # libsndfile reads what follows the samples as samples. A VOC file needs its last byte, which is zero.
    return content[: start + size] + (b"\0" if content[:8] == b"Creative" else b""), []


def ends_at_end(content: bytes) -> bool:
    """Whether a wav file ends where the size at its beginning says."""
    (size,) = struct.unpack_from(CHUNKED[content[:4]].size, content, 4)
    return end_without_tags(content) - 1 <= 8 + size <= len(content)


def ends_with_chunk(content: bytes) -> bool:
    """Whether the last chunk of a wav file is not that of the samples, and ends where the file ends."""
    *_, (name, start, size) = chunks(content, CHUNKED[content[:4]])
    return name != b"data" and any(name) and end_without_tags(content) - 1 <= start + size <= len(content)


def check_ogg(content: bytes) -> None:
    """Raises ValueError: pages are missing, or the file holds several streams."""
    position, last = 0, b""
    while content[position : position + 4] == b"OggS":
        page = content[position : position + 27 + 255]
        if len(page) < 27 or len(page) < 27 + page[26]:
            raise truncated(1)
        if last and page[5] & 2:
            raise ValueError("it chains several Ogg streams; write each as a file of its own")
        number = int.from_bytes(page[18:22], "little")
        if last and number != int.from_bytes(last[18:22], "little") + 1:
            raise ValueError(f"truncated: pages are missing before its page {number}")
        position, last = position + 27 + page[26] + sum(page[27 : 27 + page[26]]), page
    if position > len(content) or not last[5] & 4:
        raise truncated(max(position - len(content), 1))


def mend_flac(content: bytes) -> tuple[bytes, list[str]]:
    """A FLAC file with its number of samples in the header, and what is unusual about that number.

    A file that was written to a pipe lacks it. The last frame has it; the checksum of the samples, if any, proves it.

    Raises:
      ValueError: another FLAC file follows; or the number is unknown and the last frame is cut, or the checksum wrong.
    """
    if any(content.find(start, 4) > 0 for start in FLAC_STARTS):
        raise ValueError("it holds several FLAC files; write each as a file of its own")
    fields = int.from_bytes(content[18:26], "big")
    if len(content) < 42 or fields % FLAC_SAMPLES:
        return content, []
    content = content[: end_without_tags(content)]
    if not (samples := flac_samples(content)):
        raise ValueError("truncated: its header does not have its length, and its last frame is cut")
    content = content[:18] + (fields + samples).to_bytes(8, "big") + content[26:]
    if not any(content[26:42]):
        return content, [UNKNOWN_LENGTH]
    if flac_checksum(content) != content[26:42]:
        raise ValueError("truncated: its header does not have its length, and the checksum of its samples is wrong")
    return content, []


def flac_samples(content: bytes) -> int:
    """Number of samples up to the end of the last frame; 0 where that frame is cut."""
    (largest_block,) = struct.unpack_from(">H", content, 10)
    largest_frame = int.from_bytes(content[15:18], "big") or len(content)
    start = len(content)
    while (start := content.rfind(b"\xff", 42, start)) >= max(len(content) - largest_frame, 42):
        end, samples = flac_frame(content[start : start + 16], largest_block)
        if samples and not crc(content[start : start + end], 0x07, 8) and not crc(content[start:], 0x8005, 16):
            return samples
    return 0


def flac_frame(header: bytes, block: int) -> tuple[int, int]:
    """Length of the header of a frame, and number of samples up to its end; zeros where it is not a header."""
    if len(header) < 6 or header[1] & 0xFE != 0xF8:
        return 0, 0
    size, rate, first = header[2] >> 4, header[2] & 15, header[4]
    more = max(8 - (first ^ 0xFF).bit_length() - 1, 0)  # further bytes of the number, which is coded as in UTF-8
    number = first & (0x7F >> more + 1 if more else 0x7F)
    for byte in header[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    end = 5 + more + {6: 1, 7: 2}.get(size, 0)
    samples = {1: 192, 6: 1 + int.from_bytes(header[5 + more : end], "big")}
    samples |= {7: samples[6]} | {code: 576 << code - 2 for code in range(2, 6)}
    samples |= {code: 256 << code - 8 for code in range(8, 16)}
    end += {12: 1, 13: 2, 14: 2}.get(rate, 0) + 1
    if size == 0 or len(header) < end:
        return 0, 0
    return end, (number if header[1] & 1 else number * block) + samples[size]


def crc(content: bytes, polynomial: int, bits: int) -> int:
    """Cyclic redundancy check, highest bit first. It is 0 for content with its check at the end."""
    value, mask = 0, (1 << bits) - 1
    for byte in content:
        value ^= byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value >> bits - 1 else 0)) & mask
    return value


def flac_checksum(content: bytes) -> bytes:
    """MD5 of the samples, as in the header of a FLAC file."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            bits = (int.from_bytes(content[18:26], "big") >> 36 & 31) + 1
            for block in file.blocks(BLOCK // file.channels, dtype="int32"):
                width = -(-bits // 8)
                samples = np.ascontiguousarray(block >> 32 - bits, "<i4")
                digest.update(samples.view(np.uint8).reshape(-1, 4)[:, :width].tobytes())
    except soundfile.SoundFileError as error:
        raise ValueError(f"does not decode ({getattr(error, 'error_string', error)})") from error
    return digest.digest()


MP3_KBPS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@functools.lru_cache
def mp3_frame_bytes(header: bytes) -> int:
    """Length of the MPEG layer III frame with this header of four bytes; 0 where it is not such a header."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, kbps, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or not 0 < kbps < 15 or rate == 3:
        return 0
    rate_hz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bits_ms, table = (144, 1) if version == 3 else (72, 2)
    return bits_ms * 1000 * MP3_KBPS[table][kbps] // rate_hz + (header[2] >> 1 & 1)


def mp3_frames(content: bytes) -> list[tuple[int, int]]:
    """Start and end of each frame with the rate and version of the first. The last may end behind the file."""

    def size_at(start: int) -> int:
        header = content[start : start + 4]
        same = len(header) == 4 and header[1] == content[1] and not (header[2] ^ content[2]) & 0x0C
        return mp3_frame_bytes(header) if same else 0

    frames, position = [], 0
    while position >= 0 and (size := size_at(position)):
        frames.append((position, position + size))
        position += size
        if not size_at(position):  # not a frame: continues where two frames follow each other
            while (position := content.find(b"\xff", position)) >= 0:
                if (size := size_at(position)) and size_at(position + size):
                    break
                position += 1
    return frames


def mend_mp3(content: bytes) -> tuple[bytes, list[str]]:
    """An MP3 file whose first frame has the number of frames, and what is unusual about that number.

    Without such a frame libsndfile guesses the number from the first bit rate and reads no more frames.

    Raises:
      ValueError: the last frame is cut, or the file has more or fewer frames than its header says.
    """
    frames = mp3_frames(content)
    if not frames:
        raise ValueError("does not decode (no frame of MPEG layer III with a known bit rate at its beginning)")
    if (missing := frames[-1][1] - len(content)) > 0:
        raise truncated(missing)
    first = content[: frames[0][1]]
    side = (32, 17) if first[1] >> 3 & 3 == 3 else (17, 9)
    at = 4 + side[first[3] >> 6 == 3]
    is_xing, is_vbri = first[at : at + 4] in (b"Xing", b"Info"), first[36:40] == b"VBRI"
    found, said = len(frames) - (is_xing or is_vbri), None
    if is_xing and first[at + 7] & 1:
        said = int.from_bytes(first[at + 8 : at + 12], "big")
    elif is_vbri:
        said = int.from_bytes(first[50:54], "big")
    if said is not None and found < said:
        raise ValueError(f"truncated: {found} of the {said} frames that its header says")
    if said is not None and found > said:
        raise ValueError(f"its header says {said} frames, it holds {found}; encode it again as one file")
    content = content[: frames[-1][1]]
    if is_xing and said is not None and first[xing_end(first, at)]:
        return content, []
    rest = content[len(first) if is_xing or is_vbri else 0 :]
    return mp3_count(first[:4], at, found) + rest, [UNKNOWN_LENGTH] if said is None else []


def xing_end(frame: bytes, at: int) -> int:
    """Position of the fields of the encoder, such as its delay, in a frame with a Xing header."""
    flags = frame[at + 7]
    return at + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)


def mp3_count(header: bytes, at: int, frames: int) -> bytes:
    """A frame with the number of `frames` that follow, and a silent frame.

    mpg123 drops the delays of encoder and decoder, which are as long as the silent frame here.
    """
    header = bytes((header[0], header[1] | 1, header[2] & 0x0D | 0x90, header[3]))  # no checksum, 128 or 80 kbit/s
    size = mp3_frame_bytes(header)
    delay = (1152 if header[1] >> 3 & 3 == 3 else 576) - MP3_DELAY
    counting = header.ljust(at, b"\0") + struct.pack(">4sII", b"Xing", 1, frames + 1)
    counting += b"LAME".ljust(21, b"\0") + (delay << 12 | MP3_DELAY).to_bytes(3, "big")
    return counting.ljust(size, b"\0") + header.ljust(size, b"\0")
