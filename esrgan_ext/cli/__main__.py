"""`python -m esrgan_ext.cli`, where the console script is not on the path."""

from esrgan_ext.cli import main

if __name__ == "__main__":  # not in processes that are spawned: they import this module
    main()
