"""Decoding of whole, odd and damaged audio files, all written here."""

import io
import struct

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.signal
import soundfile

from audiojax.data.audio_file import decode, is_audio, read_within

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
        wav(NOISE.tobytes(), said=0xFFFF_FFFF),
        wav(NOISE.tobytes(), said=0x7FFF_FFFF - 36),
        wav(NOISE.tobytes()) + b"LIST\x04\x00\x00\x00INFO",
        wav(NOISE.tobytes(), before=b"odd \x03\x00\x00\x00abc\x00"),
        au(NOISE.byteswap().tobytes(), said=0xFFFF_FFFF),
        au(NOISE.byteswap().tobytes(), said=NOISE.nbytes + 24),
        au(NOISE.byteswap().tobytes(), NOISE.nbytes, annotation=b"by hand\x00"),
    ],
    ids=["streamed wav", "piped wav", "trailing chunk", "odd chunk", "streamed au", "header counted", "annotated"],
)
def test_headers_of_other_programs_are_understood(content):
    audio, changes = decode(content, RATE_HZ)
    np.testing.assert_array_equal(audio, NOISE)
    assert changes == ()


HEADS = [encode(NOISE[:200], form, soundfile.default_subtype(form)) for form in ("WAV", "AU", "FLAC", "OGG", "MP3")]
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


def test_files_are_read_within_their_folder_alone(tmp_path):
    release, outside = tmp_path / "release", tmp_path / "outside.wav"
    release.mkdir()
    outside.write_bytes(b"outside")
    (release / "file.wav").write_bytes(b"inside")
    (release / "link.wav").symlink_to("file.wav")
    (release / "out.wav").symlink_to(outside)
    (release / "broken.wav").symlink_to("nowhere")
    (release / "circle.wav").symlink_to("circle.wav")
    (tmp_path / "alias").symlink_to(release)
    for folder in (release, tmp_path / "alias"):
        assert read_within(folder, folder / "file.wav") == read_within(folder, folder / "link.wav") == b"inside"
        with pytest.raises(ValueError, match="a link that leads out of the release"):
            read_within(folder, folder / "out.wav")
        for name in ("broken.wav", "circle.wav", "absent.wav"):
            with pytest.raises(ValueError, match="cannot be read"):
                read_within(folder, folder / name)


def test_audio_files_are_known_by_their_extension():
    assert all(is_audio(name) for name in ("a.wav", "a b.AU", "ü.Flac", "a.mp3", "a.ogg"))
    assert not any(is_audio(name) for name in ("a.txt", "wav", "a.wav.part", "a.png"))
