"""The problem to fit: functions and their derivatives, losses, bounds; checks of the user's arguments."""
