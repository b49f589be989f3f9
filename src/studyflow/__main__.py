"""`python -m studyflow` is the command `studyflow`."""

from studyflow.cli import main

if __name__ == "__main__":
    main(prog_name="studyflow")
