"""What every station needs: errors, files, images, seeds, journal, progress. Knows no torch."""
