"""``python -m onr``, and ``torchrun -m onr`` for training in many processes."""

from onr.cli.main import main

if __name__ == "__main__":
    main(prog_name="onr")
