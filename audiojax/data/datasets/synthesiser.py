"""A small additive synthesiser for the stand-ins of the data sets."""

import dataclasses
import functools

import numpy as np


@dataclasses.dataclass(frozen=True)
class Timbre:
    """Parameters of a tone.

    rolloff: harmonic k has amplitude k ** -rolloff. even: gain of even harmonics.
    octaves: whether the harmonics are 1, 2, 4 and 8 alone, as in an organ. stretch: inharmonicity.
    attack_s: rise time. decay_s: time constant of decay. vibrato: relative depth at 5 Hz.
    noise: standard deviation of breath noise, relative to the tone. formant_hz: resonance; 0: none.
    low_pitch, high_pitch: range of MIDI notes.
    """

    rolloff: float
    even: float
    attack_s: float
    decay_s: float
    octaves: bool = False
    stretch: float = 0.0
    vibrato: float = 0.0
    noise: float = 0.0
    formant_hz: float = 0.0
    low_pitch: int = 40
    high_pitch: int = 76

    def vary(self, rng: np.random.Generator, amount: float = 0.12) -> "Timbre":
        """A similar timbre: every continuous parameter is scaled by about 1 ± amount."""
        continuous = ("rolloff", "even", "attack_s", "decay_s", "stretch", "vibrato", "noise", "formant_hz")
        return dataclasses.replace(
            self, **{name: getattr(self, name) * np.exp(amount * rng.normal()) for name in continuous}
        )


def play(timbre: Timbre, pitch: int, sample_rate_hz: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A note, int16 [samples], held for three quarters of its length."""
    time_s = np.arange(samples) / sample_rate_hz
    fundamental_hz = 440 * 2 ** ((pitch - 69 + rng.normal(0, 0.05)) / 12)
    numbers = np.array([1, 2, 4, 8]) if timbre.octaves else np.arange(1, 25)
    partials_hz = fundamental_hz * numbers * np.sqrt(1 + timbre.stretch * numbers**2)
    audible = partials_hz < 0.45 * sample_rate_hz
    numbers, partials_hz = numbers[audible], partials_hz[audible]

    gains = numbers**-timbre.rolloff * np.where(numbers % 2 == 0, timbre.even, 1.0)
    if timbre.octaves:
        gains = np.ones(len(numbers))
    if timbre.formant_hz:
        gains = gains * (0.1 + np.exp(-(((partials_hz - timbre.formant_hz) / 300) ** 2)))

    wobble_s = timbre.vibrato * np.sin(2 * np.pi * 5 * time_s + rng.uniform(0, 2 * np.pi)) / (2 * np.pi * 5)
    phases = rng.uniform(0, 2 * np.pi, len(numbers))
    moved_s = time_s + wobble_s

    def partial(gain, partial_hz, phase):
        turns = partial_hz * moved_s + phase / (2 * np.pi)
        # Within one turn, single precision suffices and is much faster.
        return gain * np.sin(2 * np.pi * (turns - np.rint(turns)).astype(np.float32))

    tone = sum(map(partial, gains, partials_hz, phases))
    tone = tone / np.abs(tone).max() + timbre.noise * rng.normal(size=samples)

    held_s = 0.75 * samples / sample_rate_hz
    envelope = np.minimum(time_s / timbre.attack_s, 1) * np.exp(-time_s / timbre.decay_s)
    envelope *= np.exp(-np.maximum(time_s - held_s, 0) / 0.1)
    audio = rng.uniform(0.3, 0.9) * envelope * tone
    return np.round(32767 * np.clip(audio, -1, 1)).astype(np.int16)


@dataclasses.dataclass(frozen=True)
class Sound:
    """Parameters of an everyday sound: an event of tone and noise that repeats, as a knock or a bark does.

    timbre, pitch (MIDI): those of the tone. The noise has its attack and decay. noise: share of noise, 0 … 1.
    noise_hz: centre of the noise, which is about an octave wide. events_per_s: mean rate.
    """

    timbre: Timbre
    pitch: float
    noise: float
    noise_hz: float
    events_per_s: float

    def vary(self, rng: np.random.Generator, amount: float = 0.25) -> "Sound":
        """A similar sound."""
        return Sound(
            self.timbre.vary(rng, amount),
            self.pitch + 12 * amount * rng.normal(),
            min(self.noise * np.exp(amount * rng.normal()), 1.0),
            self.noise_hz * np.exp(amount * rng.normal()),
            self.events_per_s * np.exp(amount * rng.normal()),
        )


def sound(kind: Sound, sample_rate_hz: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A clip of a sound, int16 [samples], at a random level."""
    timbre = kind.timbre
    event_s = min(5 * timbre.decay_s, 0.5)
    length = int(event_s * sample_rate_hz)
    time_s = np.arange(length, dtype=np.float32) / sample_rate_hz
    envelope = np.minimum(time_s / timbre.attack_s, 1) * np.exp(-time_s / timbre.decay_s)
    event = (1 - kind.noise) * unit(play(timbre, kind.pitch, sample_rate_hz, length, rng))
    event += kind.noise * unit(envelope * band_noise(kind.noise_hz, sample_rate_hz, length, rng))

    clip = np.zeros(samples, np.float32)
    start = 0
    while start < samples:
        place(clip, start, event, rng.uniform(0.6, 1.0))
        start += int(sample_rate_hz / kind.events_per_s * np.exp(0.15 * rng.normal()))
    clip += 0.01 * clip.std() * rng.standard_normal(samples, np.float32)
    return at_some_loudness(clip, rng)


@dataclasses.dataclass(frozen=True)
class Style:
    """Parameters of a piece of music in 4/4. Patterns have sixteen steps a bar, with "x" for a hit.

    kick, snare, hat, chord, bass: patterns. swing: delay of the offbeats, in steps.
    harmony: the chord of each bar, in semitones above the key. chord_timbre, bass_timbre: the instruments.
    chord_steps, bass_steps: lengths of their notes. drums: gain of the drums. drive: of the distortion; 0: none.
    noise: standard deviation of the background, relative to the music.
    """

    beats_per_min: float
    kick: str
    snare: str
    hat: str
    chord: str
    bass: str
    harmony: tuple[tuple[int, ...], ...]
    chord_timbre: Timbre
    bass_timbre: Timbre
    chord_steps: int
    bass_steps: int
    drums: float = 1.0
    swing: float = 0.0
    drive: float = 0.0
    noise: float = 0.003


def perform(style: Style, sample_rate_hz: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A piece in a style, int16 [samples], with random tempo, key, instruments, mix and level."""
    step = sample_rate_hz * 15 / (style.beats_per_min * np.exp(0.1 * rng.normal()))
    key = int(rng.integers(-5, 6))
    chord_timbre, bass_timbre = style.chord_timbre.vary(rng, 0.3), style.bass_timbre.vary(rng, 0.3)
    drums_gain, chord_gain, bass_gain = np.exp(0.6 * rng.normal(size=3))

    @functools.cache
    def note(timbre: Timbre, pitch: int, steps: int) -> np.ndarray:
        return unit(play(timbre, pitch, sample_rate_hz, int(steps * step), rng))

    def notes(timbre: Timbre, pitches: list[int], steps: int) -> np.ndarray:
        return unit(sum(note(timbre, pitch, steps) for pitch in pitches))

    voices = {
        "kick": [style.drums * drums_gain * drum(sample_rate_hz, 0.08, 55.0, 0.05, rng)],
        "snare": [0.7 * style.drums * drums_gain * drum(sample_rate_hz, 0.05, 180.0, 0.7, rng)],
        "hat": [0.3 * style.drums * drums_gain * np.diff(drum(sample_rate_hz, 0.02, 400.0, 1.0, rng))],
        "chord": [
            0.5 * chord_gain * notes(chord_timbre, [60 + key + up for up in chord], style.chord_steps)
            for chord in style.harmony
        ],
        "bass": [
            0.6 * bass_gain * notes(bass_timbre, [36 + key + chord[0] % 12], style.bass_steps)
            for chord in style.harmony
        ],
    }
    piece = np.zeros(samples, np.float32)
    for number in range(int(samples / step)):
        bar, place_in_bar = divmod(number, 16)
        start = int((number + style.swing * (number % 4 == 2)) * step)
        for name, sounds in voices.items():
            if getattr(style, name)[place_in_bar] == "x":
                place(piece, start, sounds[bar % len(sounds)], rng.uniform(0.75, 1.0))
    if style.drive:
        piece = np.tanh(style.drive * piece)
    piece += style.noise * piece.std() * rng.standard_normal(samples, np.float32)
    return at_some_loudness(piece, rng)


def drum(sample_rate_hz: int, decay_s: float, pitch_hz: float, noise: float, rng: np.random.Generator) -> np.ndarray:
    """A hit, float32: a falling tone with a share of noise."""
    decay_s, pitch_hz = decay_s * np.exp(0.15 * rng.normal()), pitch_hz * np.exp(0.1 * rng.normal())
    time_s = np.arange(int(5 * decay_s * sample_rate_hz), dtype=np.float32) / sample_rate_hz
    tone = np.sin(2 * np.pi * pitch_hz * (time_s + 0.02 * (1 - np.exp(-time_s / 0.02))))
    hiss = 0.4 * rng.standard_normal(len(time_s), np.float32)
    return (((1 - noise) * tone + noise * hiss) * np.exp(-time_s / decay_s)).astype(np.float32)


def band_noise(centre_hz: float, sample_rate_hz: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise around `centre_hz`, float32 [samples]."""
    size = 1 << (samples - 1).bit_length()  # a fast length for the FFT
    spectrum = np.fft.rfft(rng.standard_normal(size, np.float32))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / sample_rate_hz), 1.0) / centre_hz)
    return np.fft.irfft(spectrum * np.exp(-2 * octaves**2))[:samples].astype(np.float32)


def place(track: np.ndarray, start: int, event: np.ndarray, gain: float) -> None:
    """Adds `event` to `track` from `start` on, cut at the end of the track."""
    stretch = track[start : start + len(event)]
    stretch += np.float32(gain) * event[: len(stretch)]


def unit(audio: np.ndarray) -> np.ndarray:
    """The audio at a peak of 1, float32."""
    return (audio / max(np.abs(audio).max(), 1e-9)).astype(np.float32)


def at_some_loudness(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The audio as int16, at a random root mean square between -30 and -18 dB."""
    audio = audio * (10 ** (rng.uniform(-30, -18) / 20) / max(audio.std(), 1e-9))
    return np.round(32767 * np.clip(audio, -1, 1)).astype(np.int16)


def spread(number: int, dimensions: int) -> np.ndarray:
    """Point `number` of a sequence in [0, 1)^dimensions whose points are far apart."""
    ratio = 2.0
    for _ in range(40):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))  # the root of x**(d + 1) = x + 1
    return (0.5 + number * ratio ** -np.arange(1.0, dimensions + 1)) % 1
