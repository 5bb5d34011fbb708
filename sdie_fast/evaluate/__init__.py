"""Evaluation: what masks scored, and the tables, charts and pages that say so."""
