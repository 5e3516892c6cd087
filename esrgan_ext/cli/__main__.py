"""`python -m esrgan_ext.cli`, where the console script is not on the path."""

from esrgan_ext.cli import main

main()
