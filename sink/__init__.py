"""Stream to target: collect up to a watermark, collapse per key, apply in one transaction with the progress."""
