"""Front ends against librosa and torch.stft: python -m benchmarks.frontend [--quick].

64 clips of 3 s at 22,050 Hz, 128 mel bands, levels relative to each clip's loudest. Each peer does the same work in its
fastest form: librosa over the whole batch or clip by clip, torch as one batch on all cores of the machine.
"""

import argparse
import os

import jax
import librosa
import numpy as np

from audiojax import frontend
from benchmarks.common import installed, measure, report

CLIPS, SECONDS, RATE_HZ, HOP, MELS, COEFFICIENTS = 64, 3, 22_050, 512, 128, 20
CASES = {"log_mel 1024": 1024, "log_mel 2048": 2048, "mfcc 2048": 2048}
BANDWIDTH = {"NVIDIA H200": 4.8e12, "NVIDIA H100 80GB HBM3": 3.35e12, "NVIDIA A100-SXM4-80GB": 2.04e12}  # bytes/s


def ours(case: str, n_fft: int, audio_BT: np.ndarray):
    settings = dict(sample_rate_hz=RATE_HZ, n_fft=n_fft, hop_samples=HOP, centred=True, mels=MELS)
    settings |= dict(reference="max", top_db=80.0)
    if case.startswith("mfcc"):
        feature = jax.jit(lambda x: frontend.mfcc(x, None, coefficients=COEFFICIENTS, **settings))
    else:
        feature = jax.jit(lambda x: frontend.log_mel(x, None, **settings))
    on_device = jax.device_put(audio_BT)
    return lambda: feature(on_device).block_until_ready()


def librosas(case: str, n_fft: int, audio_BT: np.ndarray):
    def feature(x):
        mel = librosa.feature.melspectrogram(y=x, sr=RATE_HZ, n_fft=n_fft, hop_length=HOP, n_mels=MELS)
        level = librosa.power_to_db(mel, ref=np.max, top_db=80)
        return librosa.feature.mfcc(S=level, n_mfcc=COEFFICIENTS) if case.startswith("mfcc") else level

    return {"batch": lambda: feature(audio_BT), "loop": lambda: [feature(x) for x in audio_BT]}


def torchs(case: str, n_fft: int, audio_BT: np.ndarray):
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    x_BT, window = torch.from_numpy(audio_BT).to(device), torch.hann_window(n_fft, device=device)
    bank_KM = torch.from_numpy(librosa.filters.mel(sr=RATE_HZ, n_fft=n_fft, n_mels=MELS).T.copy()).to(device)
    dct_MC = torch.from_numpy(np.asarray(frontend._dct(MELS, COEFFICIENTS))).to(device)

    @torch.no_grad()
    def feature():
        spectrum = torch.stft(x_BT, n_fft, HOP, window=window, pad_mode="constant", return_complex=True)
        mel = torch.view_as_real(spectrum).square_().sum(-1).transpose(1, 2) @ bank_KM
        loudest = mel.amax((1, 2), keepdim=True).clamp_min_(1e-10)
        level = mel.div_(loudest).clamp_min_(1e-8).log10_().mul_(10)
        level = level @ dct_MC if case.startswith("mfcc") else level
        if device == "cuda":
            torch.cuda.synchronize()
        return level

    return feature


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: ends within a minute on 2 cores")
    rounds = 15 if parser.parse_args().quick else 61
    audio_BT = 0.1 * np.random.default_rng(0).normal(size=(CLIPS, SECONDS * RATE_HZ)).astype(np.float32)
    with_torch = installed("torch")
    ratios, figures = {}, {}
    for case, n_fft in CASES.items():
        by_librosa = librosas(case, n_fft, audio_BT)
        trial = measure(by_librosa, rounds=2)
        contenders = {"audiojax": ours(case, n_fft, audio_BT)}
        if with_torch:
            contenders["torch"] = torchs(case, n_fft, audio_BT)
        contenders["librosa"] = by_librosa[min(trial, key=trial.get)]
        seconds = measure(contenders, rounds)
        figures |= {f"{case}: {name}, ms": 1e3 * value for name, value in seconds.items()}
        ratios[f"{case} / librosa"] = seconds["librosa"] / seconds["audiojax"]
        if with_torch:
            ratios[f"{case} / torch"] = seconds["torch"] / seconds["audiojax"]
        figures[f"{case}: audiojax, clips/s"] = CLIPS / seconds["audiojax"]
        if jax.default_backend() != "cpu":
            features = CLIPS * (1 + audio_BT.shape[1] // HOP) * (COEFFICIENTS if case.startswith("mfcc") else MELS)
            bytes_per_s = 4 * (audio_BT.size + features) / seconds["audiojax"]  # each sample read, each feature written
            figures[f"{case}: audiojax, bytes/s"] = bytes_per_s
            if peak := BANDWIDTH.get(jax.devices()[0].device_kind):
                figures[f"{case}: audiojax, share of memory bandwidth"] = bytes_per_s / peak
    report("frontend", ratios, figures)


if __name__ == "__main__":
    main()
