"""audiojax: audio classification, tagging and generation in JAX."""

from audiojax import host

host.set_cache_folders()  # before anything imports librosa or matplotlib
