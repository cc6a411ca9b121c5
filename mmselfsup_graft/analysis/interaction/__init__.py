"""Multi-order interaction strength."""
