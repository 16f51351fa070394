"""Results in, pictures out: contact sheets, class activation maps over photographs, matching places of two photographs."""
