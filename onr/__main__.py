"""``python -m onr``, which ``torchrun --nproc-per-node 2 -m onr train`` needs."""

from onr.cli.main import main

main(prog_name="onr")
