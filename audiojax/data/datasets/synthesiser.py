"""A small additive synthesiser for the stand-in data: a timbre a class, variation within it."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Timbre:
    """Parameters of a sound.

    rolloff: harmonic k has amplitude k ** -rolloff. even: gain of the even harmonics.
    octaves: harmonics 1, 2, 4, 8 alone, as an organ's stops. stretch: inharmonicity of the partials.
    attack_s: rise time. decay_s: time constant of the fall. vibrato: relative depth at about 5 Hz.
    noise: standard deviation of breath noise, relative to the tone. formant_hz: resonance, 0 for none.
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
        """Another sound of the same kind: every continuous parameter scaled by about 1 ± amount."""
        continuous = ("rolloff", "even", "attack_s", "decay_s", "stretch", "vibrato", "noise", "formant_hz")
        return dataclasses.replace(
            self, **{name: getattr(self, name) * np.exp(amount * rng.normal()) for name in continuous}
        )


def play(timbre: Timbre, pitch: int, sample_rate_hz: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """One note, int16 [samples]: held for three quarters of its length, then released."""
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
    tone = sum(
        gain * np.sin(2 * np.pi * partial_hz * (time_s + wobble_s) + phase)
        for gain, partial_hz, phase in zip(gains, partials_hz, phases)
    )
    tone = tone / np.abs(tone).max() + timbre.noise * rng.normal(size=samples)

    held_s = 0.75 * samples / sample_rate_hz
    envelope = np.minimum(time_s / timbre.attack_s, 1) * np.exp(-time_s / timbre.decay_s)
    envelope *= np.exp(-np.maximum(time_s - held_s, 0) / 0.1)
    audio = rng.uniform(0.3, 0.9) * envelope * tone
    return np.round(32767 * np.clip(audio, -1, 1)).astype(np.int16)
