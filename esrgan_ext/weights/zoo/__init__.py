"""Model packages of the BioImage.IO zoo: written by `writing`, read by `reading`."""
