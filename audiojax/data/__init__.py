"""From a release on disk to batches on the mesh."""
