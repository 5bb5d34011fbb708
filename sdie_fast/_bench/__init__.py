"""Latency, measured side by side with what users compose today."""
