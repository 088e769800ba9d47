"""audiojax: audio classification, tagging and generation in JAX."""

from audiojax import host

__version__ = "0.1.0"

host.set_cache_folders()  # before anything imports librosa or matplotlib
