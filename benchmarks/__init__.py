"""Speed against peers, each figure a ratio measured in one run."""
