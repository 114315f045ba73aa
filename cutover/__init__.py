"""Who may write: one row decides, fences and guards carry it out, and every step can be taken back or finished."""
