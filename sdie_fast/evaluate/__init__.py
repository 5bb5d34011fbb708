"""Judging masks: metrics, tables, reports."""
