"""Many tasks on the processes of this machine."""
