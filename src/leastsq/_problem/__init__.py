"""What is fitted: functions and their derivatives, losses, bounds; what the user handed over, checked."""
