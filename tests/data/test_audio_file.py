"""Decoding of whole, odd and damaged audio files, all written here."""

import io
import re
import struct

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.signal
import soundfile

from audiojax.data.audio_file import MISREAD, decode
from audiojax.data.release import is_audio

RATE_HZ = 22_050
RNG = np.random.default_rng(0)
NOISE = RNG.integers(-32768, 32768, 5000).astype(np.int16)
TONE = (0.4 * np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)


def encode(audio, form="WAV", subtype="PCM_16", rate=RATE_HZ, **options) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=form, subtype=subtype, **options)
    return file.getvalue()


def wav(data: bytes, said: int | None = None, before: bytes = b"") -> bytes:
    """A mono 16-bit wav file by hand, its data chunk of any said length."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
    said = len(data) if said is None else said
    body = b"WAVE" + form + before + struct.pack("<4sI", b"data", said) + data
    return struct.pack("<4sI", b"RIFF", min(len(body) - len(data) + said, 0xFFFF_FFFF)) + body


def au(data: bytes, said: int, annotation: bytes = b"") -> bytes:
    return struct.pack(">4sIIIII", b".snd", 24 + len(annotation), said, 3, RATE_HZ, 1) + annotation + data


@pytest.mark.parametrize(
    ("form", "options"),
    [("WAV", {}), ("WAVEX", {}), ("WAV", {"endian": "BIG"}), ("AU", {}), ("AU", {"endian": "LITTLE"}), ("FLAC", {})],
    ids=["wav", "wavex", "rifx", "au", "little-endian au", "flac"],
)
def test_sixteen_bits_at_the_rate_are_untouched(form, options):
    audio, changes = decode(encode(NOISE, form, **options), RATE_HZ)
    np.testing.assert_array_equal(audio, NOISE)
    assert audio.dtype == np.int16 and changes == ()


@pytest.mark.parametrize(("form", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_files_are_read(form, subtype):
    tone = scipy.signal.resample(TONE, 24_000)
    audio, changes = decode(encode(tone, form, subtype, 24_000), 24_000)
    assert len(audio) == 24_000 and changes == ()
    middle = slice(4000, 20_000)
    assert max(np.corrcoef(audio[middle], np.roll(tone, shift)[middle])[0, 1] for shift in range(-60, 60)) > 0.98


DEPTHS = {
    ("WAV", "PCM_U8"): ("8 bits", 257),
    ("AU", "PCM_S8"): ("8 bits", 257),
    ("WAV", "PCM_24"): ("24 bits", 0.51),
    ("FLAC", "PCM_24"): ("24 bits", 0.51),
    ("WAV", "PCM_32"): ("32 bits", 0.51),
    ("WAV", "FLOAT"): ("float", 0.5),
    ("AU", "DOUBLE"): ("float", 0.5),
}


@pytest.mark.parametrize(("form", "subtype"), DEPTHS)
def test_other_depths_are_rounded_and_counted(form, subtype):
    what, error = DEPTHS[form, subtype]
    audio, changes = decode(encode(TONE, form, subtype), RATE_HZ)
    assert audio.dtype == np.int16 and changes == (f"converted from {what}",)
    assert np.abs(audio - 32768.0 * TONE).max() <= error


def test_floats_beyond_full_scale_are_clipped_and_counted():
    audio, changes = decode(encode(np.array([0.5, 1.0, -1.0]), subtype="FLOAT"), RATE_HZ)
    assert audio.tolist() == [16384, 32767, -32768] and changes == ("converted from float",)
    audio, changes = decode(encode(np.array([0.5, 1.5, -7.0]), subtype="FLOAT"), RATE_HZ)
    assert audio.tolist() == [16384, 32767, -32768] and changes == ("converted from float", "clipped")


def test_channels_are_averaged_and_counted():
    audio, changes = decode(encode(np.array([[100, 200], [32767, 32767], [-5, 5], [-32768, 0]], np.int16)), RATE_HZ)
    assert audio.tolist() == [150, 32767, 0, -16384] and changes == ("mixed to mono",)


def test_another_rate_is_resampled_once_and_counted():
    audio, changes = decode(encode(TONE, rate=RATE_HZ), 44_100)
    assert len(audio) == 44_100 and changes == ("resampled",)
    expected = 0.4 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    assert np.abs(audio / 32768 - expected)[2000:-2000].max() < 2e-4
    stereo = encode(np.stack([TONE, TONE], 1), subtype="PCM_24", rate=48_000)
    assert decode(stereo, RATE_HZ)[1] == ("converted from 24 bits", "mixed to mono", "resampled")


def test_silence_is_read_and_counted():
    audio, changes = decode(encode(np.zeros(10, np.int16)), RATE_HZ)
    assert audio.tolist() == [0] * 10 and changes == ("silent",)


@pytest.mark.parametrize("form", ["WAV", "AU", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("kept", [0.995, 0.5, 0.02])
def test_truncated_file_is_refused(form, kept):
    content = encode(TONE, form, soundfile.default_subtype(form))
    with pytest.raises(ValueError, match="truncated|does not decode"):
        decode(content[: int(kept * len(content))], RATE_HZ)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "does not decode"),
        (b"nothing of the kind", "does not decode"),
        (b"RIFF\x00\x00\x00\x00WAVE", "does not decode"),
        (encode(NOISE)[:30], "does not decode"),
        (b"\x00" * 2000, "does not decode"),
        (wav(b""), "no samples"),
        (au(b"", 0), "no samples"),
        (encode(np.zeros(0, np.int16), "FLAC"), "no samples|does not decode"),
        (wav(NOISE.tobytes()[:-1], said=NOISE.nbytes), "truncated: it ends at least 1 bytes too early"),
        (encode(np.array([0.5, np.nan]), subtype="FLOAT"), "NaN or infinite"),
        (encode(np.array([0.5, -np.inf]), subtype="DOUBLE"), "NaN or infinite"),
        (encode(NOISE, rate=1), "a sample rate of 1 Hz"),
    ],
    # A float file holds the second of its writing, so the bytes cannot be its name.
    ids=["none", "text", "bare header", "cut header", "zeros", "empty wav", "empty au", "empty flac", "cut wav"]
    + ["not a number", "infinite", "1 Hz"],
)
def test_unreadable_file_says_why(content, why):
    with pytest.raises(ValueError, match=why):
        decode(content, RATE_HZ)


@pytest.mark.parametrize(
    "content",
    [
        wav(NOISE.tobytes()) + b"LIST\x04\x00\x00\x00INFO",
        wav(NOISE.tobytes(), before=b"odd \x03\x00\x00\x00abc\x00"),
        wav(NOISE.tobytes(), before=b"LIST\x04\x00\x00\x00INFO"),
        au(NOISE.byteswap().tobytes(), NOISE.nbytes, annotation=b"by hand\x00"),
    ],
    ids=["trailing chunk", "odd chunk", "chunk in front", "annotated"],
)
def test_headers_of_other_programs_are_understood(content):
    audio, changes = decode(content, RATE_HZ)
    np.testing.assert_array_equal(audio, NOISE)
    assert changes == ()


def rifx(data: bytes, said: int) -> bytes:
    content = encode(np.frombuffer(data, "<i2"), endian="BIG")
    start = content.index(b"data") + 4
    return content[:start] + struct.pack(">I", said) + content[start + 4 :]


def with_field(content: bytes, name: bytes, layout: str, *values: int) -> bytes:
    """The file with other numbers behind the name of a chunk."""
    start = content.index(name) + len(name)
    return content[:start] + struct.pack(layout, *values) + content[start + struct.calcsize(layout) :]


PIPED = "of unknown length"
CORRECTED = "with header size corrected"
W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
TAG_BEHIND = b"TAG" + bytes(range(125))


@pytest.mark.parametrize(
    ("content", "change"),
    [
        (wav(NOISE.tobytes(), said=0xFFFF_FFFF), PIPED),
        (wav(NOISE.tobytes(), said=0xFFFF_FFFF) + TAG_BEHIND, PIPED),
        (wav(NOISE.tobytes(), said=0x7FFF_FFFF - 36), PIPED),
        (rifx(NOISE.tobytes(), said=0xFFFF_FFFF), PIPED),
        (au(NOISE.byteswap().tobytes(), said=0xFFFF_FFFF), PIPED),
        (with_field(encode(NOISE, "CAF"), b"data", ">q", -1), PIPED),
        (with_field(encode(NOISE, "W64"), W64_DATA, "<q", -1), PIPED),
        (with_field(with_field(encode(NOISE, "RF64"), b"ds64", "<Iqq", 28, -1, -1), b"data", "<I", 2**32 - 1), PIPED),
        (wav(NOISE.tobytes(), said=0), CORRECTED),
        (with_field(wav(NOISE.tobytes()), b"data", "<I", 0), CORRECTED),
        (b"RIFF\0\0\0\0" + wav(NOISE.tobytes(), said=0)[8:] + TAG_BEHIND, CORRECTED),
        (wav(NOISE.tobytes(), said=NOISE.nbytes + 44), CORRECTED),
        (b"RIFF" + struct.pack("<I", NOISE.nbytes + 36) + wav(NOISE.tobytes(), said=2 * NOISE.nbytes)[8:], CORRECTED),
        (rifx(NOISE.tobytes(), said=NOISE.nbytes + 44), CORRECTED),
        (au(NOISE.byteswap().tobytes(), said=0), CORRECTED),
        (au(NOISE.byteswap().tobytes(), said=NOISE.nbytes + 24), CORRECTED),
    ],
    ids=["wav", "tagged wav", "piped wav", "rifx", "au", "caf", "w64", "rf64"]
    + [
        "unclosed wav",
        "half closed wav",
        "tagged unclosed wav",
        "header counted",
        "right outer size",
        "rifx header counted",
        "unclosed au",
        "au header counted",
    ],
)
def test_sizes_that_are_off_are_corrected_and_counted(content, change):
    audio, changes = decode(content, RATE_HZ)
    np.testing.assert_array_equal(audio, NOISE)
    assert changes == (change,)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
def test_an_unclosed_wav_of_any_depth_is_read_to_its_end(subtype, channels):
    content = encode(np.stack([TONE[:1000]] * channels, 1), subtype=subtype)
    expected, changes = decode(content, RATE_HZ)
    unclosed = b"RIFF\0\0\0\0" + with_field(content, b"data", "<I", 0)[8:]
    audio, noted = decode(unclosed, RATE_HZ)
    np.testing.assert_array_equal(audio, expected)
    assert noted == (CORRECTED, *changes)


@pytest.mark.parametrize("behind", [b"", b"LIST\x04\x00\x00\x00INFO", TAG_BEHIND], ids=["nothing", "chunk", "tag"])
def test_an_empty_wav_is_refused(behind):
    content = wav(b"") + behind
    content = content[:4] + struct.pack("<I", 36 + (len(behind) if behind[:4] == b"LIST" else 0)) + content[8:]
    with pytest.raises(ValueError, match="it holds no samples"):
        decode(content, RATE_HZ)


def test_samples_in_several_pieces_are_refused():
    piece = struct.pack("<4sI", b"data", NOISE.nbytes) + NOISE.tobytes()
    block = b"\x02" + (100).to_bytes(3, "little") + bytes(100)  # of a VOC file: sound goes on
    for content in (wav(NOISE.tobytes()) + piece, encode(NOISE, "VOC")[:-1] + block + b"\0"):
        with pytest.raises(ValueError, match="in several pieces; write it again as one"):
            decode(content, RATE_HZ)


def id3(size: int, footer: bool = False) -> bytes:
    """An ID3v2.4 tag of `size` bytes of noise."""
    head = b"\x04\x00" + (b"\x10" if footer else b"\0") + bytes(size >> 7 * place & 0x7F for place in (3, 2, 1, 0))
    return b"ID3" + head + RNG.bytes(size) + (b"3DI" + head if footer else b"")


UNREADABLE = ("IRCAM", "PAF", "PVF", "SDS", "XI")  # containers that do not say their length
FORMS = {
    (form, subtype)
    for form in set(soundfile.available_formats()) - {"RAW", "SD2"}
    for subtype in soundfile.available_subtypes(form)
    if not subtype.startswith(("DWVW", "MPEG_LAYER_I")) or (form, subtype) == ("MP3", "MPEG_LAYER_III")
}
EXACT = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_16")


def encode_noise(form: str, subtype: str, channels: int, samples: int) -> tuple[bytes, np.ndarray] | None:
    """A file of noise and its mono samples; None where soundfile does not write such a file."""
    noise = np.random.default_rng(samples).integers(-32768, 32768, (samples, channels)).astype(np.int16)
    rate = {"OPUS": 24_000, "WVE": 8000}.get(subtype if form == "OGG" else form, RATE_HZ)
    try:
        content = encode(noise / 32768 if subtype in ("FLOAT", "DOUBLE") else noise, form, subtype, rate)
        decoded = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]
    except soundfile.LibsndfileError:
        return None
    if subtype == "GSM610":  # blocks of 160 or 320 samples
        decoded = decoded[: -(-samples // (block := 160 if form == "AIFF" else 320)) * block]
    audio = (noise.astype(np.float32) / 32768 if subtype in EXACT else decoded).mean(1)
    return content, np.minimum(np.rint(np.clip(audio, -1, 1) * 32768), 32767).astype(np.int16)


def rate_of(content: bytes) -> int:
    return soundfile.info(io.BytesIO(content)).samplerate


def decode_noted(content: bytes, rate_hz: int) -> tuple[np.ndarray, bool] | None:
    """Samples and whether a doubt about their number was noted; None where the file is refused."""
    try:
        audio, changes = decode(content, rate_hz)
    except ValueError as error:
        assert str(error)
        return None
    return audio, bool({PIPED, CORRECTED} & set(changes))


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(
    form=st.sampled_from(sorted(FORMS)),
    channels=st.integers(1, 3),
    samples=st.integers(1, 1500),
    cuts=st.lists(st.floats(0, 1, exclude_max=True), min_size=4, max_size=4),
    front=st.sampled_from([b"", id3(57), id3(300) + id3(5, footer=True)]),
    behind=st.sampled_from([b"", TAG_BEHIND, id3(41, footer=True) + TAG_BEHIND]),
)
def test_files_give_all_their_samples_or_are_refused(form, channels, samples, cuts, front, behind):
    made = encode_noise(*form, channels, samples)
    hypothesis.assume(made)
    content, noise = made
    rate_hz = rate_of(content)
    if form[0] in UNREADABLE or form[1] in MISREAD:
        why = "for a cut file of it looks whole" if form[0] in UNREADABLE else "for libsndfile decodes it wrongly"
        with pytest.raises(ValueError, match=f"is not read, {why}; convert it to "):
            decode(content, rate_hz)
        return
    audio, doubtful = decode_noted(content, rate_hz)
    np.testing.assert_array_equal(audio, noise)
    assert not doubtful
    if form[0] != "HTK":  # is recognised by the size of the file
        audio, doubtful = decode_noted(front + content + behind, rate_hz)
        np.testing.assert_array_equal(audio, noise)
        assert not doubtful
    ends = {int(cut * len(content)) for cut in cuts}
    if form[1] != "GSM610":  # Its last chunk may be padded.
        ends.add(len(content) - 1)
    for end in ends:
        if (cut := decode_noted(content[:end], rate_hz)) is not None:
            assert cut[1] or np.array_equal(cut[0], noise)


@pytest.mark.parametrize("checksum", [True, False], ids=["checksum", "no checksum"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_a_piped_flac_is_read_to_its_end(subtype, channels, checksum):
    content = encode(RNG.normal(0, 0.1, (9000, channels)), "FLAC", subtype)  # several frames
    expected, changes = decode(content, RATE_HZ)
    length = int.from_bytes(content[18:26], "big") >> 36 << 36
    piped = content[:18] + length.to_bytes(8, "big") + (content[26:42] if checksum else bytes(16)) + content[42:]
    for behind in (b"", TAG_BEHIND):
        audio, noted = decode(piped + behind, RATE_HZ)
        np.testing.assert_array_equal(audio, expected)
        assert noted == (changes if checksum else (PIPED, *changes))
    for kept in (len(piped) - 1, len(piped) // 2, 200):
        with pytest.raises(ValueError, match="truncated: its header does not have its length|does not decode"):
            decode(piped[:kept], RATE_HZ)


def mp3(seconds: float = 1.0, **options) -> bytes:
    audio = np.concatenate([TONE, RNG.normal(0, 0.1, RATE_HZ)])[: int(seconds * RATE_HZ)]
    return encode(audio, "MP3", "MPEG_LAYER_III", **options)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_an_mp3_without_its_number_of_frames_is_read_whole(mode):
    content = mp3(2.0, bitrate_mode=mode, compression_level=0.5)
    first = content.index(b"\xff\xf3", 4)  # behind the frame that holds the number
    frames = int.from_bytes(content[content.index(b"LAME") - 112 :][:4], "big")
    audio, changes = decode(content[first:], RATE_HZ)
    assert len(audio) == 576 * frames and changes == (PIPED,)
    vbri = content[:4] + bytes(32) + b"VBRI" + bytes(10) + struct.pack(">I", frames)
    vbri = vbri.ljust(first, b"\0") + content[first:]
    audio, changes = decode(vbri, RATE_HZ)
    assert len(audio) == 576 * frames and changes == ()
    for cut in (content[first:-1], content[first:-300], vbri[:-300]):
        with pytest.raises(ValueError, match="truncated"):
            decode(cut, RATE_HZ)


def test_an_mp3_that_ends_between_two_frames_is_truncated():
    content = mp3(bitrate_mode="CONSTANT")
    last = content.rindex(content[:2] + content[2:3], 0, len(content) - 4)
    with pytest.raises(ValueError, match="truncated: .* frames that its header says"):
        decode(content[:last], RATE_HZ)
    with pytest.raises(ValueError, match="encode it again as one file"):
        decode(content + content, RATE_HZ)


@pytest.mark.parametrize("behind", [b"", b"TAG".ljust(128)])
def test_a_flac_file_behind_another_is_refused(behind):
    content = encode(NOISE, "FLAC")
    with pytest.raises(ValueError, match="holds several FLAC files; write each as a file of its own"):
        decode(content + content + behind, RATE_HZ)


def test_ogg_files_of_several_streams_or_without_a_page_are_refused():
    content = encode(RNG.normal(0, 0.1, 4 * RATE_HZ), "OGG", "VORBIS")
    with pytest.raises(ValueError, match="chains several Ogg streams; write each as a file of its own"):
        decode(content + content, RATE_HZ)
    pages = [match.start() for match in re.finditer(b"OggS", content)]
    assert len(pages) > 4
    with pytest.raises(ValueError, match="truncated: pages are missing before its page 4"):
        decode(content[: pages[3]] + content[pages[4] :], RATE_HZ)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_samples_in_the_range_of_int16_are_scaled_and_counted(subtype):
    scaled = "scaled from float in the range of int16"
    audio, changes = decode(encode(NOISE.astype(float), subtype=subtype), RATE_HZ)
    np.testing.assert_array_equal(audio, NOISE)
    assert changes == ("converted from float", scaled)
    stereo = encode(np.stack([NOISE, NOISE], 1).astype(float), "AIFF", subtype)
    audio, changes = decode(stereo, RATE_HZ)
    np.testing.assert_array_equal(audio, NOISE)
    assert changes == ("converted from float", scaled, "mixed to mono")
    for far in (NOISE * 0.9, NOISE * 256.0):
        with pytest.raises(ValueError, match="its float samples reach .* where full scale is 1; divide them"):
            decode(encode(far, subtype=subtype), RATE_HZ)


def test_very_quiet_files_are_counted():
    quiet = "very quiet (peak below -48 dB)"
    assert decode(encode(NOISE.astype(np.int32), subtype="PCM_32"), RATE_HZ)[1][-1] == "silent"
    assert decode(encode(NOISE.astype(np.int32) << 8, subtype="PCM_32"), RATE_HZ)[1] == (
        "converted from 32 bits",
        quiet,
    )
    assert decode(encode(NOISE.astype(np.int32) << 9, subtype="PCM_32"), RATE_HZ)[1] == ("converted from 32 bits",)
    assert decode(encode(np.array([100, -128], np.int16)), RATE_HZ)[1] == (quiet,)


HEADS = [made[0] for form in sorted(FORMS) if (made := encode_noise(*form, 1, 200))]
HEADS += [encode(NOISE[:200], subtype="FLOAT"), encode(NOISE[:200].reshape(-1, 2), subtype="PCM_24"), b""]


@hypothesis.settings(max_examples=400, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(
    head=st.sampled_from(HEADS),
    kept=st.integers(0, 3000),
    edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
    tail=st.binary(max_size=200),
)
def test_any_bytes_are_decoded_or_refused(head, kept, edits, tail):
    content = bytearray(head[:kept] + tail)
    for position, value in edits:
        content[position : position + 1] = bytes([value])
    try:
        audio, changes = decode(bytes(content), RATE_HZ)
    except ValueError as error:
        assert str(error)
    else:
        assert audio.dtype == np.int16 and audio.ndim == 1 and len(audio) and isinstance(changes, tuple)


def test_audio_files_are_known_by_their_extension():
    assert all(is_audio(name) for name in ("a.wav", "a b.AU", "ü.Flac", "a.mp3", "a.ogg"))
    assert not any(is_audio(name) for name in ("a.txt", "wav", "a.wav.part", "a.png"))
