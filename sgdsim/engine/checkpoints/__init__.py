"""Checkpoints: what identifies a run, and files that are complete or not there."""
