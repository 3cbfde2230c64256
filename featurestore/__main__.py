"""`python -m featurestore`."""

from featurestore.cli import main

main()
