"""Files by the thousand: enhanced one after another on every core, on one machine or many."""
