"""audiojax: audio classification, tagging and generation in JAX."""
