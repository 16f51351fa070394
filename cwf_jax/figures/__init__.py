"""Results in, pictures out: contact sheets, class activation maps over photographs, the reasons of a score."""
