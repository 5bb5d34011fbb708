"""What the commands of `sdie-fast` do, apart from reading their arguments (`sdie_fast.cli`)."""
