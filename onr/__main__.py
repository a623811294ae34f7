"""Run the command line: ``python -m onr``, or ``torchrun -m onr`` to train in many processes."""

from onr.cli.main import main

if __name__ == "__main__":
    main(prog_name="onr")
