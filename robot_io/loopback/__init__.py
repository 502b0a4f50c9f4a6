"""Controllers that speak the vendors' wire protocols on this machine, to try a rig without hardware."""
