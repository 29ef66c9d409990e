"""What the commands share: data sets, models, run folders, progress."""
