"""From a hospital's series to cases that a network takes, and its masks back to the series. Research use only."""
