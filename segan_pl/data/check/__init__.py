"""What is wrong with the files of a data set, found before anything is trained."""
