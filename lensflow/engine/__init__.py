"""How a lazy dataset becomes a store: plan, write, journal, retry, resume, verify, report. Knows no science."""
