"""Speed, accuracy and memory against other runtimes, side by side in one run."""
