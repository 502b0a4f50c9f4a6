"""Arms, cameras and simulated rigs: everything that touches a robot, real or simulated."""
