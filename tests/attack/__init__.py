"""An attacker of our own: `just attack` runs what has hurt once and looks for more; it prints figures and verdicts."""
